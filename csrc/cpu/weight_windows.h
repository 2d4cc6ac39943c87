// The weight of a 3x3 kernel in the windows by which Winograd's loops multiply.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "cpu/packing.h"
#include "cpu/patches.h"

namespace convgrad::cpu {

// The weight as windows. A block is as many of the destination's channels as a vector has lanes; for
// each number of the window it has a vector of each of the source's channels.
template <typename T>
class WeightWindows {
 public:
  WeightWindows(const Tiles<T>& tiles, const Gather<T>& g)
      : tiles(tiles),
        g(g),
        blocks(Blocks::covering(g.M, tiles.lanes).count),
        order{tiles.lanes, 3 * kChannels * tiles.lanes, kChannels * tiles.lanes,
              9 * kChannels * tiles.lanes},
        packing(tiles, g, order) {}

  // Elements that `make` needs at hand.
  int64_t buffer_size() const { return 2 * order.size; }

  // Some channels of a block; number i of the window begins at windows + i*window_stride.
  void make(int64_t block, Range channels, T* windows, int64_t window_stride, T* taps) const {
    // Taps are counted from the nearest on.
    const int64_t first_h = PatchAxis(g.h).nearest_tap(), first_w = PatchAxis(g.w).nearest_tap();
    for (int64_t c = channels.lo; c < channels.hi; c += kChannels) {
      const Range some{c, std::min(c + kChannels, channels.hi)};
      packing.pack_channels(block, some, taps, taps + order.size);
      tiles.window_of_taps({taps + first_h * order.t_h + first_w * order.t_w,
                            first_h > 0 ? -order.t_h : order.t_h,
                            first_w > 0 ? -order.t_w : order.t_w,
                            windows + (c - channels.lo) * tiles.lanes, window_stride, some.size()});
    }
  }

  // All of them, block by block.
  at::Tensor make_all() const {
    const auto dtype = c10::CppTypeToScalarType<T>::value;
    const int64_t stride = g.C * tiles.lanes, items = g.groups * blocks;
    at::Tensor result = at::empty({items * kWindow * stride}, dtype);
    T* windows = result.mutable_data_ptr<T>();
    at::parallel_for(0, items, grain_of(24 * 9 * stride), [&](int64_t begin, int64_t end) {
      std::vector<T> taps(buffer_size());
      for (int64_t i : Range{begin, end})
        make(i, {0, g.C}, windows + i * kWindow * stride, stride, taps.data());
    });
    return result;
  }

 private:
  static constexpr int64_t kChannels = 16;

  const Tiles<T>& tiles;
  const Gather<T>& g;
  int64_t blocks;  // of a group
  PanelOrder order;
  WeightPacking<T> packing;
};

}  // namespace convgrad::cpu
