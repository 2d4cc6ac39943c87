// How a rowwise pass is cut into blocks that threads share out and caches hold.
#pragma once

#include <cstdint>

#include "cpu/common/chains.h"
#include "cpu/common/gather.h"
#include "cpu/common/plane_bands.h"
#include "cpu/target.h"

namespace convgrad::cpu {

// The lanes are pixels of a row of the destination, the rows of a tile are its channels. A thread has the strips of one
// group of some images in a band of rows, and computes one block of channels after the other.
struct RowwiseBlocking : PlaneBands {
  Chains chains;
  Blocks vecs;      // of a row, that a tile takes at once
  Blocks channels;  // of the destination: the rows of a tile

  static RowwiseBlocking of(const Target& target, const Gather& g);

  // Null if these loops can run the pass, and are fast.
  static const char* why_not(const Target& target, const Gather& g);

  // From channel to channel of the source and from tap to tap of the packed weight, in elements.
  int64_t channel_step() const { return channels.size; }
  int64_t tap_step(const Gather& g) const { return product(g.C, channel_step()); }
  // The packed weight of a block of channels and that of all, in elements.
  int64_t block_size(const Gather& g) const { return product(g.taps(), tap_step(g)); }
  int64_t packed_size(const Gather& g) const {
    return product(g.groups, channels.count, block_size(g));
  }
  // Of a thread, in elements.
  int64_t sums_size() const { return product(channels.size, row.width); }
  int64_t scratch_size(const Gather& g) const { return total(strips_size(g), sums_size()); }
};

}  // namespace convgrad::cpu
