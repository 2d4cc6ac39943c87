// Panels: the weight in the order in which tiles read it.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "cpu/budget.h"
#include "cpu/common/blocks.h"
#include "cpu/common/gather.h"
#include "cpu/common/prefetch.h"
#include "cpu/common/scratch.h"
#include "cpu/common/threads.h"

namespace convgrad::cpu {

// Distances in a panel from one channel or tap to the next, and its size, in elements.
struct PanelOrder {
  int64_t c, t_h, t_w, size;

  static PanelOrder of(const Gather& g, int64_t lanes) {
    if (!g.channels_inside())
      return {product(g.taps(), lanes), g.w.T * lanes, lanes, product(g.C, g.taps(), lanes)};
    // One more vector for each tap: at a multiple of a page, all taps would be in one set of the cache.
    const int64_t tap = product(g.C + 1, lanes);
    return {lanes, product(g.w.T, tap), tap, product(g.taps(), tap)};
  }

  // The distances between the taps that a phase meets; `phase` is one of the pass whose weight is packed.
  PanelOrder of_phase(const Gather& phase) const {
    return {c, place(phase.h.weight_step, t_h), place(phase.w.weight_step, t_w), size};
  }
  int64_t first_tap(const Gather& phase) const {
    return phase.h.tap(0) * t_h + phase.w.tap(0) * t_w;
  }

  static int64_t panels(const Gather& g, int64_t lanes) {
    return Blocks::covering(g.M, lanes).count;
  }
  // The size of the packed weight of all groups, in elements.
  int64_t packed_size(const Gather& g, int64_t lanes) const {
    return product(g.groups, panels(g, lanes), size);
  }
};

// Packs a weight into panels of vectors of output channels; lanes beyond the last channel are zero.
template <typename Sum>
class WeightPacking {
 public:
  // Some channels of one panel.
  struct Item {
    int64_t panel;
    Range channels;
  };

  WeightPacking(const SumTiles<Sum>& tiles, const Gather& g, const Sum* weight,
                const PanelOrder& order)
      : tiles(tiles), g(g), weight(weight), order(order) {}

  at::Tensor run() const {
    at::Tensor packed = allocate<Sum>(order.packed_size(g, tiles.lanes));
    Sum* vectors = packed.mutable_data_ptr<Sum>();
    const Blocks blocks = channel_blocks();
    const int64_t items = g.groups * panel_count() * blocks.count;
    const bool far = product(packed.numel(), sizeof(Sum)) > budget().l2;
    const int64_t grain =
        grain_of(product(8, blocks.size, g.taps(), tiles.lanes));  // costlier than a sum
    at::parallel_for(0, items, grain, [&](int64_t begin, int64_t end) {
      std::vector<Sum> buffer(tap_by_tap() ? 0 : blocks.size * g.taps() * tiles.lanes);
      for (int64_t i : Range{begin, end}) {
        const auto [panel, channels] = item_at(i, blocks);
        if (far && i + 1 < end) fetch(item_at(i + 1, blocks));
        pack_channels(panel, channels, vectors + panel * order.size + channels.lo * order.c,
                      buffer.data());
      }
    });
    return packed;
  }

  // Packs some channels of a panel, the first of them to `vectors`; `buffer` has room for all of them.
  void pack_channels(int64_t panel, Range channels, Sum* vectors, Sum* buffer) const {
    PackArgs<Sum> args = first_tap_of(panel, channels.lo);
    args.vectors = vectors, args.count = channels.size();
    if (tap_by_tap()) return pack_taps(args);
    if (rows_are_gapless() && g.weight.c == to_right() * g.taps())
      return pack_gapless(args, buffer);
    const int64_t rows = rows_are_gapless() ? 1 : g.h.T;
    pack_rows(args, channels.size(), rows, g.taps() / rows);
  }

  // Asks for the weight of an item while another one is packed: it is in short pieces, of which no processor foresees the
  // next one. A piece has adjacent channels or lanes of one tap, or all taps of some.
  void fetch(const Item& item) const {
    if (item.channels.size() == 0) return;
    const PackArgs<Sum> first = first_tap_of(item.panel, item.channels.lo);
    const bool lanes_inside = lanes_are_denser();
    const int64_t inside = lanes_inside ? first.lanes : item.channels.size();
    const int64_t pieces = lanes_inside ? item.channels.size() : first.lanes;
    const int64_t step = std::max(g.weight.n, g.weight.c);
    if (std::min(g.weight.n, g.weight.c) == 1)
      for (int64_t t_h : Range{0, g.h.T})
        for (int64_t t_w : Range{0, g.w.T})
          prefetch_pieces(first.tensor + t_h * to_down() + t_w * to_right(), pieces, step, inside);
    else if (taps_are_adjacent())
      prefetch_pieces(first.tensor, pieces, step, inside * g.taps());
  }

 private:
  // Items that follow each other are near each other in the weight.
  Item item_at(int64_t i, const Blocks& blocks) const {
    const int64_t panels = g.groups * panel_count();
    if (lanes_are_denser()) return {i % panels, blocks.at(i / panels, g.C)};
    return {i / blocks.count, blocks.at(i % blocks.count, g.C)};
  }
  bool lanes_are_denser() const { return g.weight.n < g.weight.c; }

  // At a time. Tap by tap they need no buffer, and 64 come in pieces of several cache lines: with 16, a 1x1 layer of 1152
  // channels and few pixels took a quarter longer.
  static constexpr int64_t kChannels = 16, kMostTapByTap = 64;
  static constexpr int64_t kBlockBytes = 256 << 10;

  bool tap_by_tap() const { return g.weight.c == 1 || g.weight.n == 1 || g.taps() == 1; }

  int64_t panel_count() const { return PanelOrder::panels(g, tiles.lanes); }
  // From tap to tap of the weight, in elements.
  int64_t to_right() const { return place(g.w.weight_step, g.weight.w); }
  int64_t to_down() const { return place(g.h.weight_step, g.weight.h); }

  // Whether the taps of one channel or lane follow those of the one before, without gaps.
  bool taps_are_adjacent() const {
    return to_right() == 1 && rows_are_gapless() && std::min(g.weight.n, g.weight.c) == g.taps();
  }
  // Whether the rows of a kernel follow each other as its columns do.
  bool rows_are_gapless() const { return g.h.T == 1 || to_down() == to_right() * g.w.T; }

  // Blocks of the channels that are packed at a time: small ones under a large kernel.
  Blocks channel_blocks() const {
    const int64_t bytes = product(g.taps(), tiles.lanes, sizeof(Sum));
    const int64_t most = tap_by_tap() ? kMostTapByTap : kChannels;
    return Blocks::covering(g.C, std::clamp<int64_t>(kBlockBytes / bytes, 1, most));
  }

  PackArgs<Sum> first_tap_of(int64_t panel, int64_t channel) const {
    const int64_t lane = panel % panel_count() * tiles.lanes;
    PackArgs<Sum> args{};
    args.tensor = weight + g.h.tap(0) * g.weight.h + g.w.tap(0) * g.weight.w +
                  panel / panel_count() * g.weight_of_group + lane * g.weight.n +
                  channel * g.weight.c;
    args.lane_stride = g.weight.n;
    args.lanes = std::min<int64_t>(tiles.lanes, g.M - lane);
    return args;
  }

  // Tap by tap.
  void pack_taps(PackArgs<Sum> args) const {
    const PackArgs<Sum> first = args;
    args.step = g.weight.c, args.vector_stride = order.c;
    for (int64_t t_h : Range{0, g.h.T})
      for (int64_t t_w : Range{0, g.w.T}) {
        args.tensor = first.tensor + t_h * to_down() + t_w * to_right();
        args.vectors = first.vectors + t_h * order.t_h + t_w * order.t_w;
        tiles.pack(args);
      }
  }

  // All taps of all channels are transposed at once, and then sorted by tap.
  void pack_gapless(PackArgs<Sum> args, Sum* buffer) const {
    const int64_t channels = args.count;
    Sum* const vectors = args.vectors;
    const bool in_order = order.c == g.taps() * tiles.lanes;
    args.step = to_right(), args.count = channels * g.taps(), args.vector_stride = tiles.lanes;
    if (!in_order) args.vectors = buffer;
    tiles.pack(args);
    if (in_order) return;
    for (int64_t tap : Range{0, g.taps()})
      tiles.copy_vectors({.from = buffer + tap * tiles.lanes,
                          .from_stride = g.taps() * tiles.lanes,
                          .to = vectors + tap * order.t_w,
                          .to_stride = order.c,
                          .count = channels});
  }

  void pack_rows(PackArgs<Sum> args, int64_t channels, int64_t rows, int64_t taps) const {
    const PackArgs<Sum> first = args;
    args.step = to_right(), args.vector_stride = order.t_w, args.count = taps;
    for (int64_t c : Range{0, channels})
      for (int64_t row : Range{0, rows}) {
        args.tensor = first.tensor + c * g.weight.c + row * to_down();
        args.vectors = first.vectors + c * order.c + row * order.t_h;
        tiles.pack(args);
      }
  }

  const SumTiles<Sum>& tiles;
  const Gather& g;
  const Sum* weight;
  PanelOrder order;
};

}  // namespace convgrad::cpu
