#include "cpu/rowwise/blocking.h"

#include <algorithm>

#include "cpu/common/threads.h"

namespace convgrad::cpu {
namespace {

constexpr const char* kManyChannels = "channels of the destination fill lanes as well as pixels do";
constexpr const char* kAdjacentChannels = "pixels of a row are not adjacent";
constexpr const char* kPadding = "most pixels meet the padding";
constexpr const char* kLargeStrip = "the padded sources of a row are too large for the cache";
constexpr const char* kLongSum = "the sum needs several levels of chains";

// Whether vectors of pixels of the destination have a fifth more lanes in use than vectors of its channels; or as many, where
// one vector would have all channels: a tile of one vector loads a number for each multiply-add. The sums are those of the
// loops over all taps.
bool pixels_fill_more_lanes(const Gather& g, const PlaneRow& row, int64_t lanes) {
  constexpr int64_t kWideTile = 3;
  const int64_t channels = ceil_div(g.M, lanes) * lanes;
  const int64_t by_channels = product(g.M, row.width);
  const int64_t by_pixels = product(channels, row.images.size, g.w.D);
  const bool is_narrow = channels == lanes && row.width >= kWideTile * lanes;
  return is_narrow ? by_channels <= by_pixels : product(6, by_channels) <= product(5, by_pixels);
}

// The others cost as much as if they did.
bool most_meet_all_taps(const Walk& walk) { return 2 * walk.interior().size() >= walk.D; }

// Of the widest tile that has a row for each channel of the destination; or of three vectors, which load fewer numbers for
// each multiply-add than two or four do.
int64_t tile_vecs(const TileShape& tiles, int64_t M) {
  return tiles.max_rows(kMaxVecs) >= M ? kMaxVecs : 3;
}

// The strips of a thread take this part of its scratch.
int64_t strips_bytes(const Target& target) { return target.cache.sixteenths(8); }

// Of one channel of the source in a band of `rows` rows, in elements. An odd number of cache lines: at a multiple of a page,
// all channels would be in one set of the cache.
int64_t strip_size(const Target& target, const Gather& g, int64_t rows, int64_t images) {
  const int64_t line = Target::kLine / target.tiles.sum_bytes;
  const int64_t size = PlaneStrip::size(g.h, g.w, rows, images, target.tiles.lanes);
  return product(ceil_div(size, line) | 1, line);
}

// The largest band whose strips fit, if there is one, in as many bands as give every thread an item.
Blocks bands_of(const Target& target, const Gather& g, const RowwiseBlocking& b) {
  const int64_t bytes = product(g.C, target.tiles.sum_bytes);
  const int64_t items = std::max<int64_t>(1, b.items_of_band(g));
  const int64_t bands = ceil_div(wanted_items(target.threads), items);
  const int64_t most =
      std::min(ceil_div(g.h.D, bands), strips_bytes(target) / product(bytes, b.row.width));
  Blocks rows = Blocks::covering(g.h.D, std::max<int64_t>(1, most));
  while (rows.size > 1 &&
         product(bytes, strip_size(target, g, rows.size, b.row.images.size)) > strips_bytes(target))
    rows = Blocks::covering(g.h.D, rows.size - 1);
  return rows;
}

}  // namespace

RowwiseBlocking RowwiseBlocking::of(const Target& target, const Gather& g) {
  const TileShape& tiles = target.tiles;
  RowwiseBlocking b{};
  b.chains = Chains::of(g.C, g.h.T, g.w.T);
  b.row = PlaneRow::of(g.w, g.N, tiles.lanes);
  b.vecs = Blocks::covering(b.row.width / tiles.lanes, tile_vecs(tiles, g.M));
  b.channels = Blocks::covering(g.M, tiles.max_rows(b.vecs.size));
  b.rows = bands_of(target, g, b);
  b.strip_size = cpu::strip_size(target, g, b.rows.size, b.row.images.size);
  return b;
}

const char* RowwiseBlocking::why_not(const Target& target, const Gather& g) {
  const int64_t bytes = product(g.C, target.tiles.sum_bytes);
  if (g.source.w != 1) return kAdjacentChannels;
  if (!most_meet_all_taps(g.h) || !most_meet_all_taps(g.w)) return kPadding;
  const PlaneRow row = PlaneRow::of(g.w, g.N, target.tiles.lanes);
  if (!pixels_fill_more_lanes(g, row, target.tiles.lanes)) return kManyChannels;
  const RowwiseBlocking b = of(target, g);
  const int64_t scratch = product(b.scratch_size(g), target.tiles.sum_bytes);
  if (product(bytes, b.strip_size) > strips_bytes(target) || scratch > target.cache.sixteenths(16))
    return kLargeStrip;
  return Chains::levels_of(b.chains.count()) > 1 ? kLongSum : nullptr;
}

}  // namespace convgrad::cpu
