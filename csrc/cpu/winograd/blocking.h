// How Winograd's gathering loops are cut into blocks that threads share out and caches hold.
#pragma once

#include "cpu/common/blocks.h"
#include "cpu/common/gather.h"
#include "cpu/common/scratch.h"
#include "cpu/target.h"
#include "cpu/winograd/output_tile_grid.h"
#include "cpu/winograd/transformed_sources.h"
#include "cpu/winograd/transformed_weight.h"

namespace convgrad::cpu {

// It depends on the pass and on the caches.
struct WinogradBlocking {
  int64_t lanes;  // of a vector
  int64_t tiles;  // output tiles of all images
  int64_t rows;   // of a register tile
  Blocks slices;  // of vectors of output tiles: the width of a register tile
  int64_t width;  // of a slice, in output tiles
  bool one_item;  // whether one item has all the output tiles and transforms the weight for itself
  Blocks channels;   // of the source
  Blocks spans;      // of slices, that an item computes
  Blocks blocks;     // of the destination's channels: the lanes of the weight
  Blocks parts;      // of blocks, that an item computes
  RowBuffer buffer;  // of the sources

  static WinogradBlocking of(const Target& target, const Gather& g);

  // In elements.
  int64_t tiles_of_span() const { return spans.size * width; }
  int64_t sums_size() const { return kNumbers * blocks.size * width; }
  // Whether the sums of several blocks and slices are kept until the next block of channels is added.
  bool sums_wait() const { return channels.count > 1; }
  int64_t packed_size(const Gather& g) const {
    return one_item ? 0 : product(g.groups, blocks.count, kNumbers, g.C, lanes);
  }

  // From number to number of transformed tiles, in elements.
  int64_t source_stride() const { return channels.size * tiles_of_span() + lanes; }
  int64_t weight_stride(const Gather& g) const { return (one_item ? channels.size : g.C) * lanes; }
  int64_t sums_stride() const { return lanes * width; }
  int64_t pixels_stride() const { return 2 * width; }  // from row to row of pixels

  Range tiles_of(Range some_slices) const {
    return Range::within(some_slices.lo * width, some_slices.hi * width, tiles);
  }
};

// The scratch of a thread.
template <typename Sum>
struct WinogradScratch {
  Sum *sources, *weight, *sums;  // transformed tiles
  Sum *rows, *taps, *pixels;     // copies of the sources and of the weight; output tiles

  static WinogradScratch in(ScratchPieces<Sum>& pieces, const WinogradBlocking& b) {
    WinogradScratch s{};
    s.sources = pieces.next(kNumbers * b.source_stride());
    s.weight = pieces.next(b.one_item ? kNumbers * b.channels.size * b.lanes : 0);
    s.sums = pieces.next(b.sums_size() * (b.sums_wait() ? b.parts.size * b.spans.size : 1));
    s.rows = pieces.next(b.buffer.size());
    s.taps = pieces.next(b.one_item ? TransformedWeight<Sum>::buffer_size(b.lanes) : 0);
    s.pixels = pieces.next(b.lanes * 2 * b.pixels_stride());
    return s;
  }

  // In elements.
  static int64_t size(const WinogradBlocking& blocking) {
    ScratchPieces<Sum> counter;
    in(counter, blocking);
    return counter.used;
  }
};

}  // namespace convgrad::cpu
