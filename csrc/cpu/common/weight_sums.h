// The sums of grad_weight in the order of tiles, and how they are stored in the tensor.
#pragma once

#include <algorithm>

#include "conv_shape.h"
#include "cpu/common/blocks.h"
#include "cpu/common/views.h"
#include "cpu/kernels/tiles.h"

namespace convgrad::cpu {

// An item has some output channels, in blocks of the vectors that a tile takes at once, and some input
// channels. Its sums are stored as [block][c_in][number][vectors], where the numbers are the taps or, in
// Winograd's form, those of a transformed tile.
struct WeightSums {
  int64_t groups, C_out, C_in;  // channels of a group
  int64_t lanes;                // of a vector
  int64_t vectors;              // vectors of output channels in a group
  Blocks outs;                  // of vectors, that a tile takes at once
  Blocks parts;                 // of outs: the output channels of an item
  Blocks ins;                   // the input channels of an item
  int64_t numbers;              // of each pair of channels

  struct Item {
    int64_t group;
    Range blocks, channels;  // of output channels; input channels
  };

  // In elements.
  int64_t vector_size() const { return outs.size * lanes; }
  int64_t block_size() const { return product(numbers, ins.size, vector_size()); }
  int64_t item_size() const { return product(parts.size, block_size()); }
  int64_t item_count() const { return groups * parts.count * ins.count; }

  Item item(int64_t i) const {
    return {i / ins.count / parts.count, parts.at(i / ins.count % parts.count, outs.count),
            ins.at(i % ins.count, C_in)};
  }
  Range vectors_of(int64_t block) const { return outs.at(block, vectors); }
};

// The tensors of grad_weight.
template <typename Sum>
struct WeightOperands {
  Images<const Sum> input, grad_output;
  Images<Sum> grad_weight;
};

// Adds the chunks of an item's sums, in their order, to the first.
template <typename Sum>
void add_chunks(Sum* sums, int64_t size, int64_t chunks, int64_t from_chunk_to_chunk) {
  for (int64_t chunk : Range{1, std::max<int64_t>(1, chunks)})
    for (int64_t i : Range{0, size}) sums[i] += sums[chunk * from_chunk_to_chunk + i];
}

// Stores the sums of a block as (c_out, c_in, k_h, k_w); their numbers are the taps.
template <typename Sum>
void store_block(const Tiles<Sum, Sum>& tiles, const WeightSums& layout,
                 const WeightSums::Item& item, int64_t block, const ConvShape& shape,
                 const Sum* sums, const Images<Sum>& grad_weight) {
  const Range vectors = layout.vectors_of(block);
  const int64_t taps = shape.taps();
  const bool gapless = grad_weight.c == taps && grad_weight.h == shape.w.K && grad_weight.w == 1;
  for (int64_t v : Range{0, vectors.size()}) {
    const int64_t c_out = (vectors.lo + v) * layout.lanes;
    UnpackArgs<Sum, Sum> args{};
    args.vectors = sums + v * layout.lanes;
    args.tensor = grad_weight.at(item.group * layout.C_out + c_out, item.channels.lo);
    args.lane_stride = grad_weight.n;
    args.lanes = std::min<int64_t>(layout.lanes, layout.C_out - c_out);
    const UnpackArgs<Sum, Sum> first = args;
    if (gapless) {
      args.vector_stride = layout.vector_size(), args.step = 1;
      args.count = item.channels.size() * taps;
      tiles.unpack(args);
      continue;
    }
    args.vector_stride = taps * layout.vector_size(), args.step = grad_weight.c;
    args.count = item.channels.size();
    for (int64_t tap : Range{0, taps}) {
      args.vectors = first.vectors + tap * layout.vector_size();
      args.tensor =
          first.tensor + tap / shape.w.K * grad_weight.h + tap % shape.w.K * grad_weight.w;
      tiles.unpack(args);
    }
  }
}

}  // namespace convgrad::cpu
