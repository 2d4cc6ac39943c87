// The runs that tiles sum over. They are made when a rectangle is visited and not kept for all rectangles:
// under a large kernel, every pixel near a border has taps of its own.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/common/chains.h"
#include "cpu/common/gather.h"
#include "cpu/common/layout.h"
#include "cpu/common/panels.h"
#include "cpu/kernels/tiles.h"

namespace convgrad::cpu {

class Reduction {
 public:
  Reduction(const Gather& g, const PanelOrder& order, const SourceLayout& from)
      : g(g), order(order), from(from) {}

  // Sets the arguments so that tiles sum over a chain's channels and some of its taps.
  template <typename Sum>
  void set(const Chain& chain, Range taps_h, Range taps_w, TileArgs<Sum>& args) {
    const int64_t channels = chain.channels.size();
    args.run_count = 0;
    if (taps_h.size() == 0 || taps_w.size() == 0) return;
    const bool inside = g.channels_inside();
    args.length = inside ? channels : taps_w.size();
    // A run of one step has no next place, which might be far outside of the image.
    const int64_t step = inside ? from.c : place(g.w.tap_step, g.source.w);
    args.a_step = args.length > 1 ? step : 0;
    args.b_step = inside ? order.c : order.t_w;
    // There is one run for each of these channels and taps; a run goes along the channels or the taps of a row.
    const int64_t first_c = inside ? 1 : channels;
    const Range first_w{taps_w.lo, inside ? taps_w.hi : std::min(taps_w.lo + 1, taps_w.hi)};
    // In one channel, rows of taps follow each other: all rectangles of a column share them.
    const Range rows = first_c == 1 ? chain.taps_h : taps_h;
    make(first_c, rows, first_w);
    args.runs = runs.data() + (taps_h.lo - rows.lo) * first_w.size();
    args.run_count = first_c * taps_h.size() * first_w.size();
  }

 private:
  void make(int64_t channels, Range taps_h, Range taps_w) {
    if (channels == made.channels && taps_h == made.taps_h && taps_w == made.taps_w) return;
    made = {channels, taps_h, taps_w};
    runs.resize(channels * taps_h.size() * taps_w.size());
    Run* run = runs.data();
    for (int64_t c : Range{0, channels})
      for (int64_t t_h : taps_h) {
        const int64_t a = place(c, from.c, 1, from.t_h[t_h]);
        const int64_t b = c * order.c + t_h * order.t_h;
        for (int64_t t_w : taps_w) *run++ = {place(1, a, 1, from.t_w[t_w]), b + t_w * order.t_w};
      }
  }

  const Gather& g;
  const PanelOrder& order;
  SourceLayout from;
  std::vector<Run> runs;
  struct {
    int64_t channels;
    Range taps_h, taps_w;
  } made{};  // of the runs at hand
};

}  // namespace convgrad::cpu
