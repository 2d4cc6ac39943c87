// The walk of grad_weight over the output pixels: one stretch at a time, whose grad_output is packed.
#pragma once

#include <vector>

#include "conv_shape.h"
#include "cpu/common/blocks.h"
#include "cpu/common/layout.h"
#include "cpu/kernels/tiles.h"
#include "geometry/tap_segments.h"

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

// The places from which tiles read grad_output of one stretch: its pixels in vectors of channels. Distances in elements.
struct GradLayout {
  int64_t image, row, pixel, vector;

  // Vectors one after the other, each of them for all pixels.
  static GradLayout packed(const Band& band, int64_t pixels, int64_t lanes) {
    return {band.pixels() * lanes, band.xs.size() * lanes, lanes, pixels * lanes};
  }
  static GradLayout of_tensor(const Strides& grad_output, int64_t lanes) {
    return {grad_output.n, grad_output.h, grad_output.w, lanes};
  }
};

// The places from which tiles read the input of one stretch, and the outputs of the stretch that taps meet.
struct StretchLayout {
  SourceLayout source;
  GradLayout grads;
  int64_t image_size;          // from image to image of the source, in elements
  std::vector<TapSegment> ys;  // of each k_h
  std::vector<TapSegment> xs;  // of the taps k_w that a tile takes at once

  // Tap by tap, its outputs.
  static std::vector<TapSegment> by_taps(const Axis& axis, Range within) {
    std::vector<TapSegment> segments;
    for (int64_t k : Range{0, axis.K}) {
      const Range all = axis.outputs_of_tap(k);
      segments.push_back(
          {Range::within(std::max(all.lo, within.lo), all.hi, within.hi), {k, k + 1}});
    }
    return segments;
  }

  // The same meetings: at most `most` taps, and outputs that meet all of them.
  static std::vector<TapSegment> by_outputs(const Axis& axis, Range within, int64_t most) {
    std::vector<TapSegment> segments;
    for (const TapSegment& segment : TapSegment::of(axis.outputs(), within)) {
      const Blocks some = Blocks::covering(segment.taps.size(), most);
      for (int64_t i : Range{0, some.count}) {
        const Range taps = some.at(i, segment.taps.size());
        segments.push_back(
            {segment.pixels, {segment.taps.lo + taps.lo, segment.taps.lo + taps.hi}});
      }
    }
    return segments;
  }
};

// The runs of tiles over a stretch: along some rows of all images. They are the same for all taps of a row,
// which move the tile's A and B. Each run ends in a branch that the processor does not foresee, so that rows and images
// between which neither side has a gap are one run.
class StretchRuns {
 public:
  StretchRuns(const Band& band, int64_t images, const StretchLayout& layout)
      : band(band), images(images), layout(layout) {}

  struct Steps {
    const std::vector<Run>& runs;
    int64_t length;  // of each run
  };

  // Along some rows and columns of all images.
  Steps along(Range ys, Range xs) {
    const bool rows_join = joins(xs.size(), layout.source.right, layout.source.down,
                                 layout.grads.pixel, layout.grads.row);
    const bool images_join = rows_join && joins(ys.size(), layout.source.down, layout.image_size,
                                                layout.grads.row, layout.grads.image);
    make({0, images_join ? 1 : images}, rows_join ? Range{ys.lo, ys.lo + 1} : ys);
    return {runs, product(xs.size(), rows_join ? ys.size() : 1, images_join ? images : 1)};
  }

 private:
  // Whether `count` steps of one distance are as long as one step of the next, on both sides.
  static bool joins(int64_t count, int64_t source, int64_t source_next, int64_t grad,
                    int64_t grad_next) {
    return place(count, source) == source_next && place(count, grad) == grad_next;
  }

  void make(Range of_images, Range ys) {
    if (of_images == made_images && ys == made) return;
    made_images = of_images, made = ys;
    runs.clear();
    for (int64_t n : of_images)
      for (int64_t y : ys)
        runs.push_back({place(n, layout.image_size, y, layout.source.down),
                        place(n, layout.grads.image, y - band.ys.lo, layout.grads.row)});
  }

  Band band;
  int64_t images;
  const StretchLayout& layout;
  std::vector<Run> runs;
  Range made_images{}, made{};  // the images and rows of these runs
};

}  // namespace convgrad::cpu
