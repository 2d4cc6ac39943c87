// A strip of one channel with its padding: the pixels of a band's sources in phase order, and zeros around them. Where
// rows are narrower than vectors, those of several images are side by side.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/common/blocks.h"
#include "cpu/common/layout.h"
#include "cpu/common/prefetch.h"
#include "cpu/kernels/tiles.h"
#include "geometry/strip_order.h"

namespace convgrad::cpu {

// A row of results whose sources are in a strip: the lanes of vectors.
struct PlaneRow {
  static constexpr int64_t kMostImages = 8;

  Blocks images;     // side by side
  int64_t distance;  // from image to image, in results
  int64_t width;     // of a row of all of them: whole vectors, in results

  // The fewest images that fill more lanes than any fewer do, by an eighth at least.
  static PlaneRow of(const Walk& w, int64_t N, int64_t lanes) {
    const int64_t distance = StripOrder::with_padding(w, {0, w.D}).phase_size;
    const auto width = [&](int64_t images) {
      return ceil_div((images - 1) * distance + w.D, lanes) * lanes;
    };
    constexpr int64_t kWide = 1 << 20;  // or its taps are so far apart
    const int64_t most = distance > kWide ? 1 : std::min(N, kMostImages);
    int64_t best = 1;
    for (int64_t images = 2; images <= most; ++images)
      if (8 * images * width(best) > 9 * best * width(images)) best = images;
    return {Blocks::covering(N, best), distance, width(best)};
  }
};

class PlaneStrip {
 public:
  // `images` are side by side.
  PlaneStrip(const Walk& walk_h, const Walk& walk_w, Range ys, int64_t images)
      : sources(walk_h.sources_of(ys)),
        width(walk_w.S),
        h(StripOrder::with_padding(walk_h, ys)),
        w(StripOrder::with_padding(walk_w, {0, walk_w.D})),
        images(images),
        row_width(product(w.size(), images)) {
    for (int64_t phase_h : h.phases_read(walk_h))
      for (int64_t phase_w : w.phases_read(walk_w)) add_copy(walk_h, walk_w, phase_h, phase_w);
  }

  // Of a band of `rows` rows, in elements. The last vector of the last row may go beyond it.
  static int64_t size(const Walk& walk_h, const Walk& walk_w, int64_t rows, int64_t images,
                      int64_t lanes) {
    const StripOrder h = StripOrder::with_padding(walk_h, {0, rows});
    const StripOrder w = StripOrder::with_padding(walk_w, {0, walk_w.D});
    return total(product(h.size(), w.size(), images), lanes);
  }

  int64_t row_size() const { return row_width; }
  int64_t row(int64_t source) const { return h.position(source); }
  // The place of a source of the first image in its row.
  int64_t column(int64_t source) const {
    const int64_t position = w.position(source), phase = position / w.phase_size;
    return place_of_phase(phase) + position - phase * w.phase_size;
  }

  // Copies the sources of image i that are inside of it; the places of the others keep their zeros.
  template <typename Sum>
  void fill(const SumTiles<Sum>& tiles, const Strides& strides, const Sum* image, int64_t i,
            Sum* strip) const {
    for (const Copy& copy : copies)
      tiles.load_rows({.from = image + copy.y * strides.h + copy.x * strides.w,
                       .step = place(w.step, strides.w),
                       .to = strip + copy.to + i * w.phase_size,
                       .count = copy.columns,
                       .rows = copy.rows,
                       .from_row = place(h.step, strides.h),
                       .to_row = row_size()});
  }

  // Prefetches what `fill` copies, if pixels of a row are adjacent: no processor foresees where the rows of other images are.
  template <typename Sum>
  void fetch(const Strides& strides, const Sum* image) const {
    if (strides.w == 1)
      prefetch_pieces(image + sources.lo * strides.h, sources.size(), strides.h, width);
  }

 private:
  // The sources of a phase along both axes, the first of which is (y, x).
  struct Copy {
    int64_t y, x, to, rows, columns;
  };

  void add_copy(const Walk& walk_h, const Walk& walk_w, int64_t phase_h, int64_t phase_w) {
    const Range rows = h.inside(phase_h, walk_h.S), columns = w.inside(phase_w, walk_w.S);
    if (rows.size() == 0 || columns.size() == 0) return;
    copies.push_back({.y = h.first_source(phase_h) + rows.lo * h.step,
                      .x = w.first_source(phase_w) + columns.lo * w.step,
                      .to = (phase_h * h.phase_size + rows.lo) * row_size() +
                            place_of_phase(phase_w) + columns.lo,
                      .rows = rows.size(),
                      .columns = columns.size()});
  }

  int64_t place_of_phase(int64_t phase) const { return phase * images * w.phase_size; }

  Range sources;  // rows
  int64_t width;  // of an image
  StripOrder h, w;
  int64_t images;
  int64_t row_width;  // of all images
  std::vector<Copy> copies;
};

}  // namespace convgrad::cpu
