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
  Strip(const Gather<T>& g, const Band& band)
      : h(g.h, band.ys),
        w(g.w, band.xs),
        phases_h(h.phases_read(g.h)),
        phases_w(w.phases_read(g.w)) {
    // An odd number of cache lines: channels spread over all sets of the cache.
    constexpr int64_t line = 64 / sizeof(T);
    channel = (((h.size() * w.size() + line - 1) / line) | 1) * line;
  }

  int64_t channel_size() const { return channel; }

  SourceLayout layout(const Gather<T>& g) const {
    SourceLayout layout{channel, w.size(), 1, {}, {}};
    for (int64_t t : Range{0, g.h.T}) layout.t_h.push_back(h.position(g.h.source(0, t)) * w.size());
    for (int64_t t : Range{0, g.w.T}) layout.t_w.push_back(w.position(g.w.source(0, t)));
    return layout;
  }

  // Copies `channels` channels of an image, the first of which begins at `from`.
  void fill(T* strip, const Images<const T>& image, const T* from, int64_t channels) const {
    for (int64_t c : Range{0, channels})
      for (int64_t phase_h : phases_h)
        for (int64_t j : Range{0, h.sources_in(phase_h)}) {
          T* row = strip + c * channel + (phase_h * h.phase_size + j) * w.size();
          const int64_t y = h.first_source(phase_h) + j * h.step;
          fill_row(row, from + c * image.c + y * image.h, image.w);
        }
  }

 private:
  void fill_row(T* row, const T* pixels, int64_t pixel_stride) const {
    if (w.step == 1 && pixel_stride == 1) {
      std::memcpy(row, pixels + w.sources.lo, w.sources.size() * sizeof(T));
      return;
    }
    for (int64_t phase : phases_w)
      for (int64_t j : Range{0, w.sources_in(phase)})
        row[phase * w.phase_size + j] = pixels[(w.first_source(phase) + j * w.step) * pixel_stride];
  }

  PhaseOrder h, w;
  std::vector<int64_t> phases_h, phases_w;
  int64_t channel;
};

}  // namespace convgrad::cpu
