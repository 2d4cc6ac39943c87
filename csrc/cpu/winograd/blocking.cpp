#include "cpu/winograd/blocking.h"

#include <algorithm>

#include "cpu/common/threads.h"

namespace convgrad::cpu {
namespace {

constexpr int64_t kVecs = 3;  // of output tiles in a register tile

class Cutting {
 public:
  Cutting(const Target& target, const Gather& g) : target(target), g(g) {}

  WinogradBlocking run() {
    const OutputTileGrid grid(g.h, g.w, g.N);
    b.lanes = target.tiles.lanes, b.tiles = grid.count();
    b.rows = rows_of_tile();
    b.slices = Blocks::covering(Blocks::covering(b.tiles, b.lanes).count, kVecs);
    b.width = b.slices.size * b.lanes;
    b.one_item = b.slices.count <= 2 && weight_bytes() > large_weight_bytes();
    cut_channels();
    if (!b.one_item) b.spans.size = slices_of_item();
    b.spans = Blocks::covering(b.slices.count, b.spans.size);
    b.blocks = {Blocks::covering(g.M, b.lanes).count, b.lanes};
    b.parts = Blocks::covering(b.blocks.count, blocks_of_item());
    b.buffer = RowBuffer::of(grid, b.tiles_of_span(), b.lanes);
    return b;
  }

 private:
  // Of a thread: all of its scratch; the transformed sources of all channels, if they fit; and otherwise those of
  // a block of channels, whose sums are kept until the next block is added.
  int64_t scratch_bytes() const { return target.cache.scratch() * 9 / 10; }
  int64_t sources_bytes() const { return target.cache.sixteenths(7); }
  int64_t block_bytes() const { return target.cache.scratch() / 10; }
  // The least weight that is transformed by the item that uses it, because it would leave the caches before.
  int64_t large_weight_bytes() const { return 2 * target.cache.scratch(); }

  // The largest power of two that leaves registers for the vectors and divides the lanes.
  int64_t rows_of_tile() const {
    const int64_t most = std::min<int64_t>(b.lanes, target.tiles.max_rows(kVecs));
    int64_t rows = 1;
    while (2 * rows <= most) rows *= 2;
    return rows;
  }

  int64_t weight_bytes() const { return product(kNumbers, g.C, g.M, target.tiles.sum_bytes); }
  int64_t bytes_of_sources(int64_t channels) const {
    return product(channels, kNumbers, b.tiles_of_span(), target.tiles.sum_bytes);
  }

  void cut_channels() {
    b.spans.size = b.one_item ? b.slices.count : 1;
    const bool all = bytes_of_sources(g.C) <= sources_bytes();
    const int64_t some = std::max<int64_t>(1, block_bytes() / bytes_of_sources(1));
    b.channels = Blocks::covering(g.C, all ? g.C : some);
  }

  // One slice where sums are kept for several blocks of channels, so that more blocks share its sources.
  int64_t slices_of_item() const {
    if (b.sums_wait()) return 1;
    const int64_t fitting = sources_bytes() / bytes_of_sources(b.channels.size);
    const int64_t wanted = g.groups * b.slices.count / kGatherItems;
    return std::max<int64_t>(1, std::min(fitting, wanted));
  }

  // As many as possible, because each part transforms the sources again.
  int64_t blocks_of_item() const {
    constexpr int64_t kFew = 4;
    const int64_t bytes = product(b.spans.size, b.sums_size(), target.tiles.sum_bytes);
    const int64_t left = scratch_bytes() - bytes_of_sources(b.channels.size);
    const int64_t fitting = b.sums_wait() ? std::max<int64_t>(1, left / bytes) : b.blocks.count;
    const int64_t items =
        g.groups * b.spans.count * Blocks::covering(b.blocks.count, fitting).count;
    if (items >= kGatherItems) return fitting;
    const int64_t wanted = g.groups * b.spans.count * b.blocks.count / kGatherItems;
    return std::min(fitting, std::max(wanted, kFew));
  }

  const Target& target;
  const Gather& g;
  WinogradBlocking b{};
};

}  // namespace

WinogradBlocking WinogradBlocking::of(const Target& target, const Gather& g) {
  return Cutting(target, g).run();
}

}  // namespace convgrad::cpu
