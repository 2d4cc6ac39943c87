// The sums of grad_weight as tiles leave them, and how they come into the tensor's order.
#pragma once

#include <algorithm>

#include "conv_shape.h"
#include "cpu/tile.h"
#include "cpu/views.h"

namespace convgrad::cpu {

// An item has some output channels, as blocks of the vectors that a tile takes at once, and some input
// channels. Its sums lie as [block][c_in][number][vectors], where the numbers are the taps or, in
// Winograd's form, those of a window.
template <typename T>
struct WeightSums {
  const Tiles<T>& tiles;
  const ConvShape& shape;
  int64_t panels;   // vectors of output channels in a group
  Blocks outs;      // of panels, that a tile takes at once
  Blocks parts;     // of outs: what one item computes
  Blocks ins;       // of input channels
  int64_t numbers;  // that a pair of channels has

  struct Item {
    int64_t group;
    Range blocks, channels;  // of output channels; input channels
  };

  int64_t vector_size() const { return outs.size * tiles.lanes; }
  int64_t block_size() const { return numbers * ins.size * vector_size(); }
  int64_t item_size() const { return parts.size * block_size(); }
  int64_t item_count() const { return shape.groups * parts.count * ins.count; }

  Item item(int64_t i) const {
    return {i / ins.count / parts.count, parts.at(i / ins.count % parts.count, outs.count),
            ins.at(i % ins.count, shape.C_in_per_group())};
  }

  // Adds the chunks of an item's sums, in their order, to the first.
  void add_chunks(T* sums, int64_t chunks, int64_t from_chunk_to_chunk) const {
    for (int64_t chunk : Range{1, std::max<int64_t>(1, chunks)})
      for (int64_t i : Range{0, item_size()}) sums[i] += sums[chunk * from_chunk_to_chunk + i];
  }

  // Turns the sums of a block into (c_out, c_in, k_h, k_w); the numbers have to be taps by now.
  void store_block(const Item& item, int64_t block, T* sums, const Images<T>& grad_weight) const {
    const Range panel = outs.at(block, panels);
    const int64_t C_out = shape.C_out_per_group(), channels = item.channels.size();
    for (int64_t v : Range{0, panel.size()}) {
      const int64_t c_out = (panel.lo + v) * tiles.lanes;
      T* vectors = sums + v * tiles.lanes;
      T* to = grad_weight.at(item.group * C_out + c_out, item.channels.lo);
      const int64_t lanes = std::min<int64_t>(tiles.lanes, C_out - c_out);
      if (grad_weight.c == shape.taps() && grad_weight.h == shape.w.K && grad_weight.w == 1) {
        tiles.unpack(
            {vectors, vector_size(), to, 1, grad_weight.n, channels * shape.taps(), lanes});
        continue;
      }
      for (int64_t tap : Range{0, shape.taps()})
        tiles.unpack({vectors + tap * vector_size(), shape.taps() * vector_size(),
                      to + tap / shape.w.K * grad_weight.h + tap % shape.w.K * grad_weight.w,
                      grad_weight.c, grad_weight.n, channels, lanes});
    }
  }
};

}  // namespace convgrad::cpu
