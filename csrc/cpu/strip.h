// A copy of the part of the source that a band reads, for a block of channels. In the tensor, channels
// may lie so far apart, or at such distances, that they fall out of the cache and of its page table
// while a tile sums over them; in the strip they lie close together, and pixels lie in phase order.
#pragma once

#include <cstring>
#include <vector>

#include "cpu/schedule.h"

namespace convgrad::cpu {

template <typename T>
class Strip {
 public:
  Strip(const Tiles<T>& tiles, const Walk& walk_h, const Walk& walk_w, const Band& band)
      : tiles(&tiles),
        h(walk_h, band.ys),
        w(walk_w, band.xs),
        phases_h(h.phases_read(walk_h)),
        phases_w(w.phases_read(walk_w)),
        channel(channel_size_of(product(h.size(), w.size()))) {}

  // The largest channel of any band of so many rows and columns; at the borders it is smaller.
  static int64_t largest_channel(const Walk& walk_h, const Walk& walk_w, int64_t rows,
                                 int64_t columns) {
    return channel_size_of(
        product(PhaseOrder::size_of(walk_h.most_sources_of(rows), walk_h.step),
                PhaseOrder::size_of(walk_w.most_sources_of(columns), walk_w.step)));
  }

  int64_t channel_size() const { return channel; }

  SourceLayout layout(const Walk& walk_h, const Walk& walk_w) const {
    SourceLayout layout{channel, w.size(), 1, {}, {}};
    for (int64_t t : Range{0, walk_h.T})
      layout.t_h.push_back(h.position(walk_h.source(0, t)) * w.size());
    for (int64_t t : Range{0, walk_w.T}) layout.t_w.push_back(w.position(walk_w.source(0, t)));
    return layout;
  }

  // Copies `channels` channels of an image, the first of which begins at `from`.
  void fill(T* strip, const Images<const T>& image, const T* from, int64_t channels) const {
    const bool one_phase = h.step == 1 && w.step == 1 && image.w == 1;
    const bool whole_rows = one_phase && image.h == w.size();
    for (int64_t c : Range{0, channels}) {
      const T* pixels = from + c * image.c;
      if (whole_rows)
        copy(strip + c * channel, pixels + h.sources.lo * image.h + w.sources.lo,
             h.size() * w.size());
      else
        fill_channel(strip + c * channel, pixels, image, one_phase);
    }
  }

 private:
  // An odd number of cache lines: channels spread over all sets of the cache.
  static int64_t channel_size_of(int64_t pixels) {
    constexpr int64_t line = 64 / sizeof(T);
    return product(ceil_div(pixels, line) | 1, line);
  }

  static void copy(T* to, const T* from, int64_t count) {
    std::memcpy(to, from, count * sizeof(T));
  }

  void fill_channel(T* strip, const T* pixels, const Images<const T>& image, bool one_phase) const {
    for (int64_t phase : phases_h)
      for (int64_t j : Range{0, h.sources_in(phase)}) {
        T* row = strip + (phase * h.phase_size + j) * w.size();
        const T* from = pixels + (h.first_source(phase) + j * h.step) * image.h;
        if (one_phase)
          copy(row, from + w.sources.lo, w.sources.size());
        else
          fill_row(row, from, image.w);
      }
  }

  void fill_row(T* row, const T* pixels, int64_t pixel_stride) const {
    if (w.step == 2 && pixel_stride == 1 && phases_w.size() == 2)
      return tiles->split_row(
          {pixels + w.sources.lo, 1, w.sources.size(), row, row + w.phase_size});
    for (int64_t phase : phases_w) {
      const T* from = pixels + w.first_source(phase) * pixel_stride;
      const int64_t step = place(w.step, pixel_stride);
      for (int64_t j : Range{0, w.sources_in(phase)})
        row[phase * w.phase_size + j] = from[j * step];
    }
  }

  const Tiles<T>* tiles;
  PhaseOrder h, w;
  std::vector<int64_t> phases_h, phases_w;
  int64_t channel;
};

}  // namespace convgrad::cpu
