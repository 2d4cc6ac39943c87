// How a gathering pass over all taps is cut into blocks that threads share out and caches hold.
#pragma once

#include <cstdint>

#include "cpu/common/chains.h"
#include "cpu/common/gather.h"
#include "cpu/target.h"

namespace convgrad::cpu {

// It depends on the pass, the caches and the threads. No result's digits depend on it: those depend on the chains.
struct DirectBlocking {
  Chains chains;
  int64_t levels;        // of groups of chains
  int64_t lanes;         // of a vector
  int64_t panels;        // vectors of destination channels in a group
  Blocks vecs;           // of panels, that a tile takes at once
  Blocks parts;          // of vecs.count: the destination channels of an item
  Blocks rows, columns;  // of the destination's pixels: a band
  Blocks images;         // that share an item
  bool strips;           // whether bands are copied
  int64_t strip_image;   // of the strip of an image, in elements

  static DirectBlocking of(const Target& target, const Gather& g);

  int64_t tile_lanes() const { return vecs.size * lanes; }
  int64_t pixels() const { return rows.size * columns.size; }  // of a band
  int64_t bands() const { return rows.count * columns.count; }
  int64_t items_of_band(const Gather& g) const { return g.groups * images.count * parts.count; }
  // Of a thread, in elements.
  int64_t strip_size() const { return strip_image * images.size; }
  int64_t sums_size() const { return parts.size * images.size * pixels() * tile_lanes(); }
  int64_t scratch_size() const { return strip_size() + levels * sums_size(); }
};

}  // namespace convgrad::cpu
