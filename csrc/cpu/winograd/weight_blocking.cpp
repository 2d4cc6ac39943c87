#include "cpu/winograd/weight_blocking.h"

#include <algorithm>
#include <cmath>

#include "cpu/common/threads.h"

namespace convgrad::cpu {
namespace {

class Cutting {
 public:
  Cutting(const Target& target, const ConvShape& shape) : target(target), shape(shape) {}

  WinogradWeightBlocking run() {
    const OutputTileGrid grid(shape.h.outputs(), shape.w.outputs(), shape.N);
    b.tiles = grid.count();
    cut_channels();
    b.span = tiles_of_span();
    b.spans = Blocks::covering(b.tiles, b.span).count;
    b.chunks = Blocks::covering(b.spans, spans_of_chunk());
    b.buffer = RowBuffer::of(grid, b.span, target.tiles.lanes);
    b.longest_row = grid.longest_row(b.span);
    return b;
  }

 private:
  // Of a thread's transformed tiles, beside the sums of an item.
  int64_t tiles_bytes() const { return target.cache.sixteenths(7); }
  // Of all threads, for the sums of further chunks.
  int64_t chunks_bytes() const { return target.cache.sixteenths(7); }

  void cut_channels() {
    const int64_t most = WinogradWeightBlocking::channels_of_item(target);
    WeightSums& sums = b.sums;
    sums.groups = shape.groups, sums.numbers = kNumbers;
    sums.C_out = shape.C_out_per_group(), sums.C_in = shape.C_in_per_group();
    sums.lanes = target.tiles.lanes;
    sums.vectors = Blocks::covering(sums.C_out, sums.lanes).count;
    sums.outs = Blocks::covering(sums.vectors, b.kVecs);
    sums.parts = Blocks::covering(sums.outs.count, std::max<int64_t>(1, most / sums.vector_size()));
    b.tile_rows = Blocks::covering(sums.C_in, target.tiles.max_rows(b.kVecs)).size;
    const int64_t tile_count = Blocks::covering(sums.C_in, b.tile_rows).count;
    const int64_t some = std::max<int64_t>(1, most / b.tile_rows);
    const int64_t size = Blocks::covering(tile_count, some).size * b.tile_rows;
    sums.ins = {Blocks::covering(sums.C_in, size).count, size};
  }

  // As many vectors of output tiles as the scratch has room for, and no more than one chain in registers may
  // have.
  int64_t tiles_of_span() const {
    constexpr int64_t kMostTiles = 128;
    const int64_t lanes = target.tiles.lanes;
    const int64_t bytes =
        product(kNumbers, b.sums.ins.size + b.outputs_of_item(), target.tiles.sum_bytes);
    const int64_t fitting = std::min(tiles_bytes() / bytes, kMostTiles) / lanes;
    const int64_t all = Blocks::covering(b.tiles, lanes).count;
    return std::min(all, std::max<int64_t>(1, fitting)) * lanes;
  }

  // Where channels make too few items, the output tiles are split as well, as long as the sums of all chunks
  // have room.
  int64_t spans_of_chunk() const {
    const int64_t bytes = product(b.sums_size(), target.tiles.sum_bytes);
    const int64_t possible = 1 + chunks_bytes() / bytes;
    const int64_t wanted = Blocks::covering(kReductionItems, b.sums.item_count()).count;
    return Blocks::covering(b.spans, std::min(possible, wanted)).count;
  }

  const Target& target;
  const ConvShape& shape;
  WinogradWeightBlocking b{};
};

}  // namespace

int64_t WinogradWeightBlocking::channels_of_item(const Target& target) {
  constexpr int64_t kMultiple = 32;  // of the vectors and of the rows of most register tiles
  const double pairs = static_cast<double>(target.cache.sixteenths(9)) /
                       static_cast<double>(kNumbers * target.tiles.sum_bytes);
  const int64_t most = static_cast<int64_t>(std::sqrt(pairs));
  return std::max(kMultiple, most / kMultiple * kMultiple);
}

WinogradWeightBlocking WinogradWeightBlocking::of(const Target& target, const ConvShape& shape) {
  return Cutting(target, shape).run();
}

}  // namespace convgrad::cpu
