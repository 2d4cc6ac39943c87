// The weight of a 3x3 kernel, transformed.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "cpu/common/panels.h"
#include "cpu/winograd/output_tile_grid.h"

namespace convgrad::cpu {

// A block has as many of the destination's channels as a vector has lanes. It is stored as [16][channel of the
// source][lane], 16 numbers of a transformed tile.
template <typename Sum>
class TransformedWeight {
 public:
  TransformedWeight(const SumTiles<Sum>& tiles, const Gather& g, const Sum* weight)
      : tiles(tiles), g(g), packing(tiles, g, weight, order_of(tiles.lanes)) {}

  // Elements of the buffer of `make`.
  static int64_t buffer_size(int64_t lanes) { return 2 * order_of(lanes).size; }

  // Some channels of a block; number i of the transformed tiles starts at transformed + i*stride.
  void make(int64_t block, Range channels, Sum* transformed, int64_t stride, Sum* buffer) const {
    const PanelOrder order = order_of(tiles.lanes);
    // Taps are counted from the nearest on.
    const int64_t first_h = OutputTileAxis::of(g.h).nearest_tap();
    const int64_t first_w = OutputTileAxis::of(g.w).nearest_tap();
    for (int64_t c = channels.lo; c < channels.hi; c += kChannels) {
      const Range some{c, std::min(c + kChannels, channels.hi)};
      packing.fetch({block, {some.hi, std::min(some.hi + kChannels, channels.hi)}});
      packing.pack_channels(block, some, buffer, buffer + order.size);
      tiles.transform_taps({.taps = buffer + first_h * order.t_h + first_w * order.t_w,
                            .down = first_h > 0 ? -order.t_h : order.t_h,
                            .right = first_w > 0 ? -order.t_w : order.t_w,
                            .transformed = transformed + (c - channels.lo) * tiles.lanes,
                            .transformed_stride = stride,
                            .count = some.size()});
    }
  }

  // All blocks of all groups.
  at::Tensor make_all() const {
    const int64_t stride = g.C * tiles.lanes, items = g.groups * PanelOrder::panels(g, tiles.lanes);
    at::Tensor result = allocate<Sum>(product(items, kNumbers, stride));
    Sum* const transformed = result.mutable_data_ptr<Sum>();
    at::parallel_for(0, items, grain_of(24 * (9 * stride)), [&](int64_t begin, int64_t end) {
      std::vector<Sum> buffer(buffer_size(tiles.lanes));
      for (int64_t i : Range{begin, end})
        make(i, {0, g.C}, transformed + i * kNumbers * stride, stride, buffer.data());
    });
    return result;
  }

 private:
  static constexpr int64_t kChannels = 16;  // of the source, that are transformed at a time

  static PanelOrder order_of(int64_t lanes) {
    return {lanes, 3 * kChannels * lanes, kChannels * lanes, 9 * kChannels * lanes};
  }

  const SumTiles<Sum>& tiles;
  const Gather& g;
  WeightPacking<Sum> packing;
};

}  // namespace convgrad::cpu
