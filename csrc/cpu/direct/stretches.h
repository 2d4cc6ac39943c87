// The walk of grad_weight over the output pixels: one stretch at a time, whose grad_output is packed.
#pragma once

#include <vector>

#include "conv_shape.h"
#include "cpu/common/blocks.h"
#include "cpu/common/layout.h"
#include "cpu/kernels/tiles.h"

namespace convgrad::cpu {

// The output pixels in stretches: a rectangle of one image, or several small images.
struct Stretches {
  Blocks columns, rows, images;

  int64_t count() const { return images.count * rows.count * columns.count; }
  int64_t pixels() const { return images.size * rows.size * columns.size; }

  Range images_at(int64_t i, const ConvShape& shape) const {
    return images.at(i / (columns.count * rows.count), shape.N);
  }
  Band band_at(int64_t i, const ConvShape& shape) const {
    return {rows.at(i / columns.count % rows.count, shape.h.O),
            columns.at(i % columns.count, shape.w.O)};
  }
};

// The places from which tiles read the input of one stretch, and the outputs of the stretch that each tap meets.
struct StretchLayout {
  SourceLayout source;
  int64_t image_size;         // from image to image of the source, in elements
  std::vector<Range> ys, xs;  // the outputs of tap k_h, of tap k_w

  static std::vector<Range> outputs_of_taps(const Axis& axis, Range within) {
    std::vector<Range> outputs;
    for (int64_t k : Range{0, axis.K}) {
      const Range all = axis.outputs_of_tap(k);
      outputs.push_back(Range::within(std::max(all.lo, within.lo), all.hi, within.hi));
    }
    return outputs;
  }
};

// The runs of tiles over a stretch: along some rows of all images. They are the same for all taps of a row,
// which move the tile's A and B.
class StretchRuns {
 public:
  StretchRuns(const Band& band, int64_t images, const StretchLayout& layout, int64_t lanes)
      : band(band), images(images), layout(layout), lanes(lanes) {}

  const std::vector<Run>& along(Range rows) {
    if (rows == made) return runs;
    made = rows;
    runs.clear();
    for (int64_t n : Range{0, images})
      for (int64_t y : rows) {
        const int64_t row = n * band.ys.size() + y - band.ys.lo;
        runs.push_back(
            {place(n, layout.image_size, y, layout.source.down), row * band.xs.size() * lanes});
      }
    return runs;
  }

 private:
  Band band;
  int64_t images;
  const StretchLayout& layout;
  int64_t lanes;  // from pixel to pixel of the packed grad_output
  std::vector<Run> runs;
  Range made{};  // the rows of these runs
};

}  // namespace convgrad::cpu
