// A strip: a copy of the pixels of the source that a band reads, in a block of channels. In the tensor, channels
// can be so far apart, or at such distances, that they leave the cache and its page table while a tile sums over
// them. In the strip they are close together, and pixels are sorted by phase.
#pragma once

#include <vector>

#include "cpu/common/layout.h"
#include "cpu/kernels/tiles.h"
#include "geometry/strip_order.h"

namespace convgrad::cpu {

// The order of a strip: row by row, and in each row channel by channel, so that a tile finds the channels of a row
// in few pages. Where the tensor has channels adjacent, so has the strip, pixel by pixel. Distances in elements.
struct StripStrides {
  int64_t row, channel, pixel;
  int64_t size;  // of the strip

  // Distances that are odd, in elements or in cache lines, spread over all sets of the cache; so do pixels of less than a
  // cache line.
  static StripStrides of(int64_t rows, int64_t columns, int64_t channels, bool adjacent,
                         int64_t bytes) {
    const int64_t line = 64 / bytes;
    const int64_t lines = product(ceil_div(channels, line) | 1, line);
    const int64_t pixel = !adjacent ? 1 : channels < line ? channels : lines;
    const int64_t channel = adjacent ? 1 : columns | 1;
    const int64_t row = adjacent ? product(columns, pixel) : product(channels, channel);
    return {row, channel, pixel, product(rows, row)};
  }

  // The largest strip of a band of `rows` x `columns`; at the borders it is smaller.
  static StripStrides largest(const Walk& h, const Walk& w, int64_t rows, int64_t columns,
                              int64_t channels, bool adjacent, int64_t bytes) {
    return of(StripOrder::size_of(h.most_sources_of(rows), h.step),
              StripOrder::size_of(w.most_sources_of(columns), w.step), channels, adjacent, bytes);
  }
};

template <typename Sum>
class Strip {
 public:
  // Of up to `channels` channels.
  Strip(const SumTiles<Sum>& tiles, const Walk& walk_h, const Walk& walk_w, const Band& band,
        int64_t channels, bool adjacent)
      : tiles(&tiles),
        h(StripOrder::of(walk_h, band.ys)),
        w(StripOrder::of(walk_w, band.xs)),
        phases_h(h.phases_read(walk_h)),
        phases_w(w.phases_read(walk_w)),
        adjacent(adjacent),
        strides(StripStrides::of(h.size(), w.size(), channels, adjacent, sizeof(Sum))) {}

  int64_t size() const { return strides.size; }

  SourceLayout layout(const Walk& walk_h, const Walk& walk_w) const {
    SourceLayout layout{strides.channel, strides.row, strides.pixel, {}, {}};
    for (int64_t t : Range{0, walk_h.T})
      layout.t_h.push_back(place(h.position(walk_h.source(0, t)), strides.row));
    for (int64_t t : Range{0, walk_w.T})
      layout.t_w.push_back(place(w.position(walk_w.source(0, t)), strides.pixel));
    return layout;
  }

  // Copies `channels` channels of an image, the first of which starts at `from`.
  void fill(Sum* strip, const Strides& image, const Sum* from, int64_t channels) const {
    if (adjacent) return fill_pixels(strip, image, from, channels);
    for (int64_t c : Range{0, channels})
      fill_channel(strip + c * strides.channel, from + c * image.c, image);
  }

 private:
  void fill_pixels(Sum* strip, const Strides& image, const Sum* from, int64_t channels) const {
    for (int64_t phase_h : phases_h)
      for (int64_t row : Range{0, h.sources_in(phase_h)})
        for (int64_t phase_w : phases_w)
          tiles->load_rows({.from = from + (h.first_source(phase_h) + row * h.step) * image.h +
                                    w.first_source(phase_w) * image.w,
                            .step = 1,
                            .to = strip + (phase_h * h.phase_size + row) * strides.row +
                                  phase_w * w.phase_size * strides.pixel,
                            .count = channels,
                            .rows = w.sources_in(phase_w),
                            .from_row = place(w.step, image.w),
                            .to_row = strides.pixel});
  }

  void fill_channel(Sum* channel, const Sum* pixels, const Strides& image) const {
    for (int64_t phase : phases_h)
      fill_rows(channel + phase * h.phase_size * strides.row,
                pixels + h.first_source(phase) * image.h, h.sources_in(phase), image);
  }

  // The rows of a phase.
  void fill_rows(Sum* to, const Sum* pixels, int64_t rows, const Strides& image) const {
    const int64_t down = place(h.step, image.h);
    if (w.step == 2 && image.w == 1 && phases_w.size() == 2)
      return tiles->split_rows({.from = pixels + w.sources.lo,
                                .step = 1,
                                .even = to,
                                .odd = to + w.phase_size,
                                .count = w.sources.size(),
                                .rows = rows,
                                .from_row = down,
                                .to_row = strides.row});
    for (int64_t phase : phases_w)
      tiles->load_rows({.from = pixels + w.first_source(phase) * image.w,
                        .step = place(w.step, image.w),
                        .to = to + phase * w.phase_size,
                        .count = w.sources_in(phase),
                        .rows = rows,
                        .from_row = down,
                        .to_row = strides.row});
  }

  const SumTiles<Sum>* tiles;
  StripOrder h, w;
  std::vector<int64_t> phases_h, phases_w;
  bool adjacent;  // whether the tensor has channels adjacent
  StripStrides strides;
};

}  // namespace convgrad::cpu
