// Weights in the order in which tiles read them.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "cpu/schedule.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"

namespace convgrad::cpu {

// The weight of every group in vectors of lanes, padded with zero lanes.
template <typename T>
class WeightPacking {
 public:
  WeightPacking(const Tiles<T>& tiles, const Gather<T>& g, const PanelOrder& order)
      : tiles(tiles),
        g(g),
        order(order),
        panels(Blocks::covering(g.M, tiles.lanes).count),
        blocks(Blocks::covering(g.C, channels_of_block())),
        to_right(place(g.w.weight_step, g.weight.w)),
        to_down(place(g.h.weight_step, g.weight.h)) {}

  at::Tensor run() const {
    at::Tensor packed = room_for<T>(product(g.groups, panels, order.size));
    T* vectors = packed.mutable_data_ptr<T>();
    const int64_t items = g.groups * panels * blocks.count;
    const int64_t grain =
        grain_of(product(8, blocks.size, g.taps(), tiles.lanes));  // costlier than a sum
    at::parallel_for(0, items, grain, [&](int64_t begin, int64_t end) {
      std::vector<T> turned(blocks.size * g.taps() * tiles.lanes);
      for (int64_t i : Range{begin, end}) pack_block(i, vectors, turned.data());
    });
    return packed;
  }

  // Some channels of a panel, the first of them to `vectors`; `turned` has room for all.
  void pack_channels(int64_t panel, Range channels, T* vectors, T* turned) const {
    const int64_t lane = panel % panels * tiles.lanes;
    const T* from = g.weight.data + g.h.tap(0) * g.weight.h + g.w.tap(0) * g.weight.w +
                    panel / panels * g.weight_of_group + lane * g.weight.n;
    const int64_t lanes = std::min<int64_t>(tiles.lanes, g.M - lane);
    const bool rows_gapless = g.h.T == 1 || to_down == to_right * g.w.T;
    from += channels.lo * g.weight.c;
    if (g.taps() == 1)
      return pack({vectors, order.c, nullptr, g.weight.c, g.weight.n, channels.size(), lanes},
                  from);
    if (rows_gapless && g.weight.c == to_right * g.taps())
      return pack_gapless(vectors, from, channels.size(), lanes, turned);
    const int64_t rows = rows_gapless ? 1 : g.h.T, taps = g.taps() / rows;
    for (int64_t c : Range{0, channels.size()})
      for (int64_t row : Range{0, rows})
        pack({vectors + c * order.c + row * order.t_h, order.t_w, nullptr, to_right, g.weight.n,
              taps, lanes},
             from + c * g.weight.c + row * to_down);
  }

 private:
  static constexpr int64_t kChannels = 16;
  static constexpr int64_t kBlockBytes = 256 << 10;

  // As many as are turned at a time: few under a large kernel.
  int64_t channels_of_block() const {
    const int64_t bytes = product(g.taps(), tiles.lanes, sizeof(T));
    return std::clamp<int64_t>(kBlockBytes / bytes, 1, kChannels);
  }

  void pack_block(int64_t i, T* vectors, T* turned) const {
    const Range channels = blocks.at(i % blocks.count, g.C);
    vectors += i / blocks.count * order.size + channels.lo * order.c;
    pack_channels(i / blocks.count, channels, vectors, turned);
  }

  // All taps of all channels turned in one go, and then sorted by tap.
  void pack_gapless(T* vectors, const T* from, int64_t channels, int64_t lanes, T* turned) const {
    const int64_t count = channels * g.taps();
    if (order.c == g.taps() * tiles.lanes)
      return pack({vectors, tiles.lanes, nullptr, to_right, g.weight.n, count, lanes}, from);
    pack({turned, tiles.lanes, nullptr, to_right, g.weight.n, count, lanes}, from);
    for (int64_t tap : Range{0, g.taps()})
      pack({vectors + tap * order.t_w, order.c, nullptr, g.taps() * tiles.lanes, 1, channels,
            tiles.lanes},
           turned + tap * tiles.lanes);
  }

  void pack(StripArgs<T> args, const T* from) const {
    args.tensor = const_cast<T*>(from);
    tiles.pack(args);
  }

  const Tiles<T>& tiles;
  const Gather<T>& g;
  PanelOrder order;
  int64_t panels;
  Blocks blocks;              // of channels
  int64_t to_right, to_down;  // from tap to tap of the weight
};

// The weight of a pass, packed when it is first asked for. It serves all phases: each has taps of its own.
template <typename T>
class PackedWeight {
 public:
  // `whole` has all the taps.
  PackedWeight(const Tiles<T>& tiles, const Gather<T>& whole)
      : tiles(tiles), whole(whole), order(PanelOrder::of(whole, tiles.lanes)) {}

  const T* panels(const Gather<T>& phase) {
    if (!data.defined()) data = WeightPacking<T>(tiles, whole, order).run();
    return data.template const_data_ptr<T>() + phase.h.tap(0) * order.t_h +
           phase.w.tap(0) * order.t_w;
  }
  // Until it is asked for again.
  void release() { data.reset(); }

  PanelOrder order_for(const Gather<T>& phase) const {
    return {order.c, place(phase.h.weight_step, order.t_h), place(phase.w.weight_step, order.t_w),
            order.size};
  }

 private:
  const Tiles<T>& tiles;
  Gather<T> whole;
  PanelOrder order;
  at::Tensor data;
};

}  // namespace convgrad::cpu
