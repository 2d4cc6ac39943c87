// How a pixelwise pass is cut into blocks that threads share out and caches hold.
#pragma once

#include <cstdint>

#include "cpu/common/blocks.h"
#include "cpu/common/gather.h"
#include "cpu/target.h"

namespace convgrad::cpu {

// One tap makes the pass a product of matrices. The lanes are pixels: a slice has as many as a tile is wide, in
// all channels of the source. The rows are the destination's channels.
struct PixelwiseBlocking {
  // Of pixels in a tile. 3 vectors x 9 rows load 12 times for 27 multiply-adds, and 3 x 4 rows 7 times for 12; two vectors
  // would load 16 times for 28, and 8 times for 12.
  static constexpr int64_t kVecs = 3;

  int64_t width;       // of a slice, in pixels
  int64_t slice_size;  // in elements
  Blocks slices;      // of all pixels, that an item reads, and copies where it cannot read in place
  Blocks channels;    // of the source: the chains of a sum
  Blocks row_blocks;  // of the destination's channels: the rows of a tile
  int64_t row_width;  // of the packed weights of a block of rows and one channel, in elements
  Blocks parts;       // of row_blocks, that an item computes
  bool in_place;      // whether whole slices are read in the tensor
  int64_t steps_ahead;  // channels that a tile prefetches there; none if sums are short
  bool packs_weight;    // or tiles read it in the tensor

  static PixelwiseBlocking of(const Target& target, const Gather& g);

  // Of one slice, in bytes.
  static int64_t slice_bytes(const TileShape& tiles, const Gather& g);

  // Whether an item fetches the sources of the next one. Short sums that are read in place do not wait for them.
  bool fetches_next() const { return !in_place || steps_ahead > 0; }

  int64_t items(const Gather& g) const { return g.groups * slices.count * parts.count; }
  // In elements.
  int64_t block_size(const Gather& g) const { return g.C * row_width; }
  int64_t packed_size(const Gather& g) const {
    return packs_weight ? product(g.groups, row_blocks.count, block_size(g)) : 0;
  }
  int64_t strip_size() const { return slices.size * slice_size; }
  int64_t scratch_size() const { return strip_size() + row_blocks.size * width; }
};

}  // namespace convgrad::cpu
