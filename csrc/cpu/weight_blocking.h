// How grad_weight is cut into blocks that threads share out and caches hold.
#pragma once

#include <algorithm>
#include <numeric>

#include "conv_shape.h"
#include "cpu/stretches.h"
#include "cpu/tile.h"
#include "cpu/weight_sums.h"

namespace convgrad::cpu {

// The sum over all pixels is cut into stretches, and stretches into chunks whose sums are added in order.
// Both depend on the pixels, the input's channels and the taps alone: a filter's digits are the same
// whatever other filters there are, and however channels and chunks are shared out.
template <typename T>
struct WeightBlocking {
  int64_t tile_rows;  // input channels of a tile
  Stretches stretches;
  bool copied;         // whether the tiles read copies of the input
  Blocks chunks;       // of stretches
  bool chunks_apart;   // items have one chunk each; otherwise they take one chunk after the other
  WeightSums<T> sums;  // of all items, for one chunk

  WeightBlocking(const Tiles<T>& tiles, const ConvShape& shape, const Images<const T>& input)
      : tile_rows(0),
        stretches(shape, pixels_of_stretch(tiles, shape), kInputStripBytes,
                  [&](const Blocks& columns, const Blocks& rows) {
                    return product(channel_bytes(shape, columns, rows),
                                   rows_of_tile(tiles, shape, kNarrow));
                  }),
        chunks(chunks_of(stretches.count())),
        chunks_apart(product(chunks.count, bytes_of_weight(tiles, shape)) <= kSumsBytes),
        sums(layout(tiles, shape)) {
    const int64_t strip =
        product(channel_bytes(shape, stretches.columns, stretches.rows), tile_rows);
    copied = crowded(input) && strip <= kInputStripBytes;
  }

  // In elements.
  int64_t packed_size() const { return sums.parts.size * stretches.pixels() * sums.vector_size(); }
  int64_t strip_size(const ConvShape& shape) const {
    if (!copied) return 0;
    return channel_bytes(shape, stretches.columns, stretches.rows) / int64_t{sizeof(T)} *
           tile_rows * stretches.images.size;
  }
  // An item's sums of a chunk that are added to those of the chunks before.
  int64_t waiting_size() const { return chunks_apart || chunks.count == 1 ? 0 : sums.item_size(); }

 private:
  static constexpr int64_t kStretchPixels = 512;
  static constexpr int64_t kPackedBytes = 256 << 10;      // of grad_output, packed at a time
  static constexpr int64_t kInputStripBytes = 192 << 10;  // of a tile's input channels
  static constexpr int64_t kSumsBytes = 512 << 10;        // of a thread's item, or of all chunks
  static constexpr int64_t kWantedItems = 8;              // to share out
  static constexpr int64_t kNarrow = 2;                   // vectors of most tiles

  // A stretch of the input is fetched, and maybe copied, for all taps and all output channels of a part:
  // the fewer taps, the more channels.
  static int64_t lanes_of_part(const ConvShape& shape) {
    constexpr int64_t kProducts = 1152;  // of each pixel that is fetched
    return std::min<int64_t>(128, kProducts / shape.taps());
  }

  static int64_t pixels_of_stretch(const Tiles<T>& tiles, const ConvShape& shape) {
    const int64_t lanes = std::max<int64_t>(kMaxVecs * tiles.lanes, lanes_of_part(shape));
    return std::min<int64_t>(kStretchPixels, kPackedBytes / (lanes * sizeof(T)));
  }

  static int64_t rows_of_tile(const Tiles<T>& tiles, const ConvShape& shape, int64_t vecs) {
    return Blocks::covering(shape.C_in_per_group(), tiles.max_rows(vecs)).size;
  }

  static int64_t channel_bytes(const ConvShape& shape, const Blocks& columns, const Blocks& rows) {
    return product(
        Strip<T>::largest_channel(shape.h.outputs(), shape.w.outputs(), rows.size, columns.size),
        sizeof(T));
  }

  static Blocks chunks_of(int64_t stretch_count) {
    const int64_t count = std::max<int64_t>(1, stretch_count);
    return Blocks::covering(count, Blocks::covering(count, kWantedItems).count);
  }

  static int64_t bytes_of_weight(const Tiles<T>& tiles, const ConvShape& shape) {
    const int64_t panels = Blocks::covering(shape.C_out_per_group(), tiles.lanes).count;
    return product(shape.groups, panels, tiles.lanes, shape.C_in_per_group(), shape.taps(),
                   sizeof(T));
  }

  // Whether the rows of a tile, which are channels, push each other out of the first cache: it finds a
  // line by its address modulo 4096 bytes, and holds few lines of the same one.
  bool crowded(const Images<const T>& input) const {
    constexpr int64_t kModulus = 4096, kLines = 4;
    const int64_t step = input.c % kModulus * static_cast<int64_t>(sizeof(T));
    return tile_rows * std::gcd(step, kModulus) > kLines * kModulus;
  }

  // Also sets `tile_rows`.
  WeightSums<T> layout(const Tiles<T>& tiles, const ConvShape& shape) {
    const int64_t panels = Blocks::covering(shape.C_out_per_group(), tiles.lanes).count;
    WeightSums<T> result{tiles, shape, panels, {}, {}, {}, shape.taps()};
    result.outs = Blocks::covering(panels, shape.C_in_per_group() <= 7 ? kMaxVecs : kNarrow);
    tile_rows = rows_of_tile(tiles, shape, std::max(kNarrow, result.outs.size));
    const int64_t wanted =
        chunks_apart ? Blocks::covering(kWantedItems, chunks.count).count : kWantedItems;
    const int64_t sharing = shape.groups * result.outs.count / wanted;
    const int64_t outs = std::min(lanes_of_part(shape) / result.vector_size(), sharing);
    result.parts = Blocks::covering(result.outs.count, std::max<int64_t>(1, outs));
    result.ins = input_blocks(result, wanted);
    return result;
  }

  // In blocks of whole tiles whose sums fit, and in several blocks if that is what it takes to have
  // enough items.
  Blocks input_blocks(const WeightSums<T>& of, int64_t wanted_items) const {
    const int64_t C = of.shape.C_in_per_group();
    const int64_t tile_count = Blocks::covering(C, tile_rows).count;
    const int64_t tile_bytes =
        product(of.parts.size, tile_rows, of.shape.taps(), of.vector_size(), sizeof(T));
    const int64_t fitting = std::max<int64_t>(1, kSumsBytes / tile_bytes);
    const int64_t wanted = Blocks::covering(wanted_items, of.shape.groups * of.parts.count).count;
    const int64_t per_block = std::min(fitting, Blocks::covering(tile_count, wanted).count);
    const int64_t size = Blocks::covering(tile_count, per_block).size * tile_rows;
    return {Blocks::covering(C, size).count, size};
  }
};

}  // namespace convgrad::cpu
