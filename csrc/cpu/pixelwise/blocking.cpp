#include "cpu/pixelwise/blocking.h"

#include <algorithm>

#include "cpu/common/chains.h"
#include "cpu/common/threads.h"
#include "cpu/pixelwise/pixel_rows.h"

namespace convgrad::cpu {
namespace {

// Whether the channels of a slice stay in L1d while one block of rows after the other reads them. They should be in pages
// that the first level of the TLB has at once, three quarters of 64.
bool stays_in_l1d(const Target& target, const Gather& g, int64_t width) {
  constexpr int64_t kPage = 4096, kPages = 48;
  const int64_t step = std::min(g.source.c, kPage) * target.tiles.sum_bytes;
  const int64_t pages = product(g.C, std::min(step, kPage)) / kPage;
  return !target.is_crowded(g.C, g.source.c, width) && pages <= kPages;
}

// Whether tiles should read whole slices in the image, of `width` bytes. Their vectors should start at cache lines.
// Where a slice does not stay in L1d, each block of rows brings it from L2 again, and a copy costs as much as some of
// these bytes for each channel. Layers were timed both ways: 128 filters (2880 bytes on AVX-512, 3072 on AVX2) gained
// without a copy, and 256 (5568, 6144) lost; where channels push each other out of L1d, as at 32x32 pixels, 24 filters (576)
// gained, and 64 (1536) did not.
bool reads_well(const Target& target, const Gather& g, int64_t width, int64_t blocks) {
  constexpr int64_t kCopy = 4096, kCrowdedCopy = 1024;
  const int64_t in_line = g.source.c % Target::kLine * target.tiles.sum_bytes;
  if (in_line % Target::kLine != 0) return false;
  if (stays_in_l1d(target, g, width)) return true;
  const int64_t copy = target.outrun_prefetch(g.source.c) ? kCrowdedCopy : kCopy;
  return product(blocks, width) <= copy;
}

}  // namespace

int64_t PixelwiseBlocking::slice_bytes(const TileShape& tiles, const Gather& g) {
  return product(g.C + tiles.max_rows(kVecs), kVecs, tiles.lanes, tiles.sum_bytes);
}

PixelwiseBlocking PixelwiseBlocking::of(const Target& target, const Gather& g) {
  const TileShape& tiles = target.tiles;
  const PixelRows pixels(g);
  PixelwiseBlocking b{};
  b.width = kVecs * tiles.lanes;
  // One channel more: at a multiple of a page, all slices would be in one set of the cache.
  b.slice_size = (g.C + 1) * b.width;
  const int64_t slices = Blocks::covering(pixels.count(), b.width).count;
  const int64_t fitting = target.cache.sixteenths(5) / slice_bytes(tiles, g);
  b.slices = Blocks::covering(slices, std::max<int64_t>(1, fitting));
  b.channels = Chains::of(g.C, 1, 1).channels;
  b.row_blocks = Blocks::covering(g.M, tiles.max_rows(kVecs));
  b.row_width = Blocks::covering(b.row_blocks.size, tiles.lanes).count * tiles.lanes;
  const int64_t blocks = b.row_blocks.count * g.groups * b.slices.count;
  b.parts = Blocks::covering(b.row_blocks.count,
                             Blocks::covering(blocks, wanted_items(target.threads)).count);
  b.parts = shared_evenly(b.parts, b.row_blocks.count, g.groups * b.slices.count, target.threads);
  b.in_place = pixels.source_step() == 1 &&
               reads_well(target, g, b.width * tiles.sum_bytes, b.row_blocks.count);
  const int64_t ahead = target.outrun_prefetch(g.source.c) ? kFewStepsAhead : kStepsAhead;
  b.steps_ahead = b.in_place && g.C > 2 * ahead ? ahead : 0;
  // The channels of a row are adjacent in forward, so that a tile's rows are as many streams.
  b.packs_weight = g.weight.c != 1;
  return b;
}

}  // namespace convgrad::cpu
