#include "cpu/depthwise/blocking.h"

#include <algorithm>

#include "cpu/common/chains.h"
#include "cpu/common/threads.h"
#include "geometry/tap_groups.h"

namespace convgrad::cpu {
namespace {

constexpr const char* kNoImages = "there are no images";
constexpr const char* kManyChannels =
    "groups have many channels of the source to sum over, or several that are adjacent";
constexpr const char* kScattered = "filters of the one group are adjacent in channels_last";
constexpr const char* kManyFilters = "the filters of a group fill vectors";
constexpr const char* kLargeStrip = "the padded sources of a row are too large for the cache";
constexpr const char* kLongSum = "the sum needs several levels of chains";

// Whether pixels fill lanes better than channels of a group do; of several channels, if pixels are adjacent. The number of
// filters has no influence here: in forward and grad_input, the digits of a filter do not depend on others.
bool has_few_channels(int64_t groups, int64_t channels, const Strides& source) {
  return channels == 1 || (groups > 1 && channels <= kChannelsOfPlanes && source.w == 1);
}

// Whether grad_weight gains by lanes that are filters, because all of them share a source. Lanes of pixels need
// the sources again for every filter.
bool has_many_filters(const ConvShape& shape) {
  constexpr int64_t kFilters = 32, kPairs = 48;
  const int64_t filters = shape.C_out_per_group();
  return filters >= kFilters || product(filters, shape.C_in_per_group()) >= kPairs;
}

// Of the sources of one row, in bytes: a number that no processor changes, because the digits of forward and grad_input
// depend on the path.
constexpr int64_t kLargestStrip = 128 << 10;

// The largest bands whose bytes fit into L1d; or, where neighbouring bands would share most of their sources, into a
// part of the scratch.
template <typename Bytes>
Blocks bands_of(const Target& target, const Walk& h, int64_t most, const Bytes& bytes) {
  const int64_t few = std::min({h.D, 2 * h.T, most});
  Blocks rows{};
  for (const int64_t room :
       {target.cache.l1d, target.cache.sixteenths(4), target.cache.sixteenths(8)}) {
    rows = Blocks::covering(h.D, most);
    while (rows.size > 1 && bytes(rows.size) > room) rows = Blocks::covering(h.D, rows.size / 2);
    if (bytes(rows.size) <= room && rows.size >= few) break;
  }
  return rows;
}

}  // namespace

PlaneBlocking PlaneBlocking::of(const Target& target, const Gather& g) {
  const int64_t bytes = target.tiles.sum_bytes, lanes = target.tiles.lanes;
  PlaneBlocking b{};
  b.row = PlaneRow::of(g.w, g.N, lanes);
  b.tile_rows = max_slide_rows(b.row.width / lanes);
  const int64_t chain = longest_chain(product(g.C, g.taps()));
  b.tap_columns = Blocks::covering(
      g.w.T, std::max<int64_t>(1, chain / std::min<int64_t>(g.h.T, kMaxSlideTaps)));
  const auto strip = [&](int64_t rows) {
    return PlaneStrip::size(g.h, g.w, rows, b.row.images.size, lanes);
  };
  b.rows = bands_of(target, g.h, g.h.D, [&](int64_t rows) {
    return product(total(product(g.C, strip(rows)), product(rows, b.row.width)), bytes);
  });
  b.strip_size = strip(b.rows.size);
  b.fetches_next = target.exceeds_l2(product(g.h.S, g.w.S, g.groups, g.C));
  return b;
}

const char* PlaneBlocking::why_not(const Target& target, const Gather& g) {
  if (target.tiles.pairs) return kPairs;
  if (!has_few_channels(g.groups, g.C, g.source)) return kManyChannels;
  if (g.groups == 1 && g.destination.w != 1) return kScattered;
  const int64_t row = PlaneStrip::size(g.h, g.w, 1, 1, target.tiles.lanes);
  if (product(g.C, row, target.tiles.sum_bytes) > kLargestStrip) return kLargeStrip;
  const PlaneBlocking b = of(target, g);
  const auto rows = static_cast<int64_t>(TapGroup::of(g.h, {0, g.h.T}, kMaxSlideTaps).size());
  const int64_t chains = product(rows, b.tap_columns.count, g.C);
  return Chains::levels_of(chains) > 1 ? kLongSum : nullptr;
}

PlaneWeightBlocking PlaneWeightBlocking::of(const Target& target, const ConvShape& shape) {
  const int64_t bytes = target.tiles.sum_bytes, lanes = target.tiles.lanes;
  const Walk h = shape.h.outputs(), w = shape.w.outputs();
  PlaneWeightBlocking b{};
  b.C_in = shape.C_in_per_group();
  b.row = PlaneRow::of(w, shape.N, lanes);
  b.sum_size = product(shape.taps(), lanes);
  const auto strip = [&](int64_t rows) {
    return PlaneStrip::size(h, w, rows, b.row.images.size, lanes);
  };
  const int64_t most = std::max<int64_t>(1, kLongestPixelChain / (b.row.width / lanes));
  b.rows = bands_of(target, h, most, [&](int64_t rows) {
    return product(total(product(b.C_in, strip(rows)), product(rows, b.row.width)), bytes);
  });
  b.strip_size = strip(b.rows.size);
  b.fetches_next = target.exceeds_l2(product(shape.h.I, shape.w.I, shape.C_in));
  const int64_t wanted = ceil_div(kReductionItems, shape.groups);
  b.chunks = Blocks::covering(b.bands(), ceil_div(b.bands(), wanted));
  return b;
}

const char* PlaneWeightBlocking::why_not(const Target& target, const ConvShape& shape,
                                         const Strides& input) {
  if (shape.N == 0) return kNoImages;
  if (target.tiles.pairs) return kPairs;
  if (!has_few_channels(shape.groups, shape.C_in_per_group(), input)) return kManyChannels;
  if (has_many_filters(shape)) return kManyFilters;
  const int64_t bytes = product(of(target, shape).scratch_size(), target.tiles.sum_bytes);
  return bytes > target.cache.sixteenths(16) ? kLargeStrip : nullptr;
}

}  // namespace convgrad::cpu
