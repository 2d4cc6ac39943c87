// How the loops of depthwise convolutions are cut into blocks that threads share out and caches hold.
#pragma once

#include <cstdint>

#include "cpu/common/blocks.h"
#include "cpu/common/gather.h"
#include "cpu/common/plane_bands.h"
#include "cpu/target.h"

namespace convgrad::cpu {

// The most channels of a group, of several, for which lanes are pixels.
constexpr int64_t kChannelsOfPlanes = 4;

constexpr const char* kPairs = "slides multiply single numbers, not pairs";

// forward and grad_input with pixels of a row as lanes. A thread has the strips of one group of some images in a band
// of rows, and computes one channel of the destination after the other.
struct PlaneBlocking : PlaneBands {
  int64_t tile_rows;   // the most
  Blocks tap_columns;  // that a tile sums over
  bool fetches_next;   // whether an item prefetches the sources of the next group

  static PlaneBlocking of(const Target& target, const Gather& g);

  // Null if these loops can run the pass.
  static const char* why_not(const Target& target, const Gather& g);

  // Of a thread, in elements.
  int64_t sums_size() const { return product(rows.size, row.width); }
  int64_t scratch_size(const Gather& g) const { return total(strips_size(g), sums_size()); }
};

// grad_weight with pixels of a row as lanes. An item is an output channel in a chunk of the bands of all images.
struct PlaneWeightBlocking {
  PlaneRow row;
  int64_t C_in;        // of a group
  Blocks rows;         // of the output: a band
  Blocks chunks;       // of bands of all blocks of images
  int64_t strip_size;  // of one input channel, in elements
  int64_t sum_size;    // of the sums of a pair of channels, in elements
  bool fetches_next;   // whether an item prefetches the planes of the next channel

  static PlaneWeightBlocking of(const Target& target, const ConvShape& shape);
  static const char* why_not(const Target& target, const ConvShape& shape, const Strides& input);

  int64_t bands() const { return row.images.count * rows.count; }
  int64_t grad_size() const { return product(rows.size, row.width); }
  // Of a thread, in elements.
  int64_t scratch_size() const {
    return total(product(C_in, strip_size), grad_size(), product(C_in, sum_size));
  }
  // Of all threads, in elements: the taps of every chunk.
  int64_t taps_size(const ConvShape& shape) const {
    return product(chunks.count, shape.C_out, C_in, shape.taps());
  }
};

}  // namespace convgrad::cpu
