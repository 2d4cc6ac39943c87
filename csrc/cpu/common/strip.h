// A strip: a copy of the pixels of the source that a band reads, in a block of channels. In the tensor, channels
// can be so far apart, or at such distances, that they leave the cache and its page table while a tile sums over
// them. In the strip they are close together, and pixels are sorted by phase.
#pragma once

#include <vector>

#include "cpu/common/layout.h"
#include "cpu/kernels/tiles.h"
#include "geometry/strip_order.h"

namespace convgrad::cpu {

// Sizes of a strip, in elements.
struct StripSize {
  // An odd number of cache lines, so that channels spread over all sets of the cache.
  static int64_t of_channel(int64_t pixels, int64_t bytes) {
    const int64_t line = 64 / bytes;
    return product(ceil_div(pixels, line) | 1, line);
  }

  // The largest channel of a band of `rows` x `columns`; at the borders it is smaller.
  static int64_t largest_channel(const Walk& h, const Walk& w, int64_t rows, int64_t columns,
                                 int64_t bytes) {
    return of_channel(product(StripOrder::size_of(h.most_sources_of(rows), h.step),
                              StripOrder::size_of(w.most_sources_of(columns), w.step)),
                      bytes);
  }
};

template <typename Stored, typename Sum>
class Strip {
 public:
  Strip(const Tiles<Stored, Sum>& tiles, const Walk& walk_h, const Walk& walk_w, const Band& band)
      : tiles(&tiles),
        h(StripOrder::of(walk_h, band.ys)),
        w(StripOrder::of(walk_w, band.xs)),
        phases_h(h.phases_read(walk_h)),
        phases_w(w.phases_read(walk_w)) {}

  int64_t channel_size() const {
    return StripSize::of_channel(product(h.size(), w.size()), sizeof(Sum));
  }

  SourceLayout layout(const Walk& walk_h, const Walk& walk_w) const {
    SourceLayout layout{channel_size(), w.size(), 1, {}, {}};
    for (int64_t t : Range{0, walk_h.T})
      layout.t_h.push_back(h.position(walk_h.source(0, t)) * w.size());
    for (int64_t t : Range{0, walk_w.T}) layout.t_w.push_back(w.position(walk_w.source(0, t)));
    return layout;
  }

  // Copies `channels` channels of an image, the first of which starts at `from`.
  void fill(Sum* strip, const Strides& image, const Stored* from, int64_t channels) const {
    const bool one_phase = h.step == 1 && w.step == 1 && image.w == 1;
    const bool whole_rows = one_phase && image.h == w.size();
    for (int64_t c : Range{0, channels}) {
      const Stored* pixels = from + c * image.c;
      Sum* to = strip + c * channel_size();
      if (whole_rows)
        tiles->load_rows({.from = pixels + h.sources.lo * image.h + w.sources.lo,
                          .step = 1,
                          .to = to,
                          .count = h.size() * w.size()});
      else
        fill_channel(to, pixels, image);
    }
  }

 private:
  void fill_channel(Sum* channel, const Stored* pixels, const Strides& image) const {
    for (int64_t phase : phases_h)
      fill_rows(channel + phase * h.phase_size * w.size(), pixels + h.first_source(phase) * image.h,
                h.sources_in(phase), image);
  }

  // The rows of a phase.
  void fill_rows(Sum* to, const Stored* pixels, int64_t rows, const Strides& image) const {
    const int64_t down = place(h.step, image.h);
    if (w.step == 2 && image.w == 1 && phases_w.size() == 2)
      return tiles->split_rows({.from = pixels + w.sources.lo,
                                .step = 1,
                                .even = to,
                                .odd = to + w.phase_size,
                                .count = w.sources.size(),
                                .rows = rows,
                                .from_row = down,
                                .to_row = w.size()});
    for (int64_t phase : phases_w)
      tiles->load_rows({.from = pixels + w.first_source(phase) * image.w,
                        .step = place(w.step, image.w),
                        .to = to + phase * w.phase_size,
                        .count = w.sources_in(phase),
                        .rows = rows,
                        .from_row = down,
                        .to_row = w.size()});
  }

  const Tiles<Stored, Sum>* tiles;
  StripOrder h, w;
  std::vector<int64_t> phases_h, phases_w;
};

}  // namespace convgrad::cpu
