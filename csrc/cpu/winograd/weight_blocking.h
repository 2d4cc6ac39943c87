// How Winograd's grad_weight is cut into blocks that threads share out and caches hold.
#pragma once

#include "cpu/common/scratch.h"
#include "cpu/common/weight_sums.h"
#include "cpu/target.h"
#include "cpu/winograd/output_tile_grid.h"
#include "cpu/winograd/transformed_sources.h"

namespace convgrad::cpu {

// It depends on the shape and on the caches.
struct WinogradWeightBlocking {
  static constexpr int64_t kVecs = 2;  // of output channels in a register tile

  int64_t tiles;        // output tiles of all images
  int64_t tile_rows;    // input channels of a register tile
  WeightSums sums;      // of all items, in one chunk
  int64_t span;         // output tiles that are transformed at a time
  int64_t spans;        // the number of spans
  Blocks chunks;        // of spans
  RowBuffer buffer;     // of the sources
  int64_t longest_row;  // output tiles of a row of a span

  static WinogradWeightBlocking of(const Target& target, const ConvShape& shape);

  // The channels of either side that an item computes: the most whose sums fit into 9/16 of the scratch.
  static int64_t channels_of_item(const Target& target);

  int64_t outputs_of_item() const { return sums.parts.size * sums.vector_size(); }
  // From number to number of transformed tiles, in elements.
  int64_t source_stride() const { return sums.ins.size * span + sums.lanes; }
  int64_t grad_stride() const { return outputs_of_item() * span; }
  // Of all threads, in elements: the sums of every chunk, unless there is one.
  int64_t sums_size() const { return product(sums.item_count(), sums.item_size()); }
};

// The scratch of a thread.
template <typename Sum>
struct WinogradWeightScratch {
  Sum *sources, *grads;  // transformed tiles
  Sum *rows, *pixels;    // copies of the sources and of grad_output
  Sum* sums;             // of an item, if there is one chunk

  static WinogradWeightScratch in(ScratchPieces<Sum>& pieces, const WinogradWeightBlocking& b) {
    WinogradWeightScratch s{};
    s.sources = pieces.next(kNumbers * b.source_stride());
    s.grads = pieces.next(kNumbers * b.grad_stride());
    s.rows = pieces.next(b.buffer.size());
    s.pixels = pieces.next(4 * b.longest_row * b.sums.lanes);
    s.sums = pieces.next(b.chunks.count == 1 ? b.sums.item_size() : 0);
    return s;
  }

  // In elements.
  static int64_t size(const WinogradWeightBlocking& blocking) {
    ScratchPieces<Sum> counter;
    in(counter, blocking);
    return counter.used;
  }
};

}  // namespace convgrad::cpu
