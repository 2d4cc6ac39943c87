// How grad_weight walks the output pixels: a stretch at a time, whose grad_output it packs.
#pragma once

#include <vector>

#include "conv_shape.h"
#include "cpu/schedule.h"
#include "cpu/strip.h"
#include "cpu/tile.h"
#include "cpu/views.h"

namespace convgrad::cpu {

// The output pixels in stretches: a rectangle of one image, or several small images.
struct Stretches {
  Blocks columns, rows, images;

  // Of so many pixels, but of fewer rows and images where a copy of what tiles read of the input,
  // bytes_of_copy(columns, rows) for an image, would take more than `most_bytes`.
  template <typename BytesOfCopy>
  Stretches(const ConvShape& shape, int64_t pixels, int64_t most_bytes,
            const BytesOfCopy& bytes_of_copy)
      : columns(Blocks::covering(shape.w.O, pixels)),
        rows(Blocks::covering(shape.h.O, std::max<int64_t>(1, pixels / columns.size))) {
    while (rows.size > 1 && bytes_of_copy(columns, rows) > most_bytes)
      rows = Blocks::covering(shape.h.O, rows.size / 2);
    const bool whole = columns.count * rows.count == 1;
    const int64_t fitting =
        whole ? std::min(pixels / shape.output_pixels(), most_bytes / bytes_of_copy(columns, rows))
              : 1;
    images = Blocks::covering(shape.N, std::max<int64_t>(1, fitting));
  }

  int64_t count() const { return images.count * rows.count * columns.count; }
  int64_t pixels() const { return images.size * rows.size * columns.size; }
};

// One stretch, and where the pixels lie that its tiles read of the input: in the tensor, or copied.
template <typename T>
struct Stretch {
  Range images;
  Band band;
  Strip<T> strip;
  SourceLayout layout;
  int64_t image_size;         // from image to image of the layout
  std::vector<Range> ys, xs;  // the outputs of tap k_h, of tap k_w
  int64_t pixel_size;         // of packed grad_output

  // Along some rows of all images; the same for all taps of a row, which move the tile's A and B.
  const std::vector<Run>& runs_along(Range rows) {
    if (rows == made) return runs;
    made = rows;
    runs.clear();
    for (int64_t n : Range{0, images.size()})
      for (int64_t y : rows) {
        const int64_t row = n * band.ys.size() + y - band.ys.lo;
        runs.push_back({place(n, image_size, y, layout.down), row * band.xs.size() * pixel_size});
      }
    return runs;
  }

  std::vector<Run> runs{};
  Range made{};  // the rows that they are of
};

}  // namespace convgrad::cpu
