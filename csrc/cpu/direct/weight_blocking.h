// How grad_weight over all taps is cut into blocks that threads share out and caches hold.
#pragma once

#include "cpu/common/gather.h"
#include "cpu/common/weight_sums.h"
#include "cpu/direct/stretches.h"
#include "cpu/target.h"

namespace convgrad::cpu {

// The sum over all pixels is cut into stretches. Successive stretches make a chunk, and the sums of chunks are
// added in their order. Both cuts depend on the pixels, the input's channels, the taps and the caches. So the
// digits of a filter depend neither on other filters nor on how channels and chunks are shared out.
struct WeightBlocking {
  // The rows of a tile are input channels under one tap, or taps of a row in one channel.
  int64_t tile_channels, tile_taps;
  Stretches stretches;     // of the output pixels
  bool copied;             // whether tiles read strips of the input
  bool packed;             // whether tiles read a copy of grad_output
  Blocks chunks;           // of stretches
  bool chunks_apart;       // whether an item has one chunk; otherwise it takes one after the other
  WeightSums sums;         // of all items, in one chunk
  int64_t strip_channels;  // of a strip, which serves some tiles
  int64_t strip_image;     // of the strip of an image, in elements

  static WeightBlocking of(const Target& target, const ConvShape& shape,
                           const PassStrides& strides);

  // Of a thread, in elements.
  int64_t packed_size() const {
    return packed ? product(sums.parts.size, stretches.pixels(), sums.vector_size()) : 0;
  }
  int64_t strip_size() const { return strip_image * stretches.images.size; }
  // The sums of an item in one chunk, which are added to those of the chunks before.
  int64_t waiting_size() const { return chunks_apart || chunks.count == 1 ? 0 : sums.item_size(); }
  int64_t scratch_size() const { return packed_size() + strip_size() + waiting_size(); }

  // Of all threads, in elements: the sums of every item, once for each chunk that is computed apart.
  int64_t chunks_of_item() const { return chunks_apart ? chunks.count : 1; }
  int64_t sums_size() const { return product(sums.item_count(), sums.item_size()); }
};

}  // namespace convgrad::cpu
