#include "cpu/depthwise/channel_blocking.h"

#include <algorithm>
#include <utility>

#include "cpu/common/chains.h"
#include "cpu/common/threads.h"
#include "cpu/depthwise/blocking.h"
#include "geometry/tap_groups.h"

namespace convgrad::cpu {
namespace {

constexpr const char* kNoImages = "there are no images";
constexpr const char* kNotAdjacent = "channels are not adjacent";
constexpr const char* kSeveralChannels = "groups have several channels";
constexpr const char* kFewChannels = "too few channels to fill a vector";
constexpr const char* kLongRow = "the sums of a row would be larger than the cache";
constexpr const char* kWideMap = "rows of pixels are wide enough to be lanes";
constexpr const char* kPhase = "other phases have pixels between those of a row";
constexpr const char* kLargeMap = "the maps of a vector of groups would be larger than the cache";
constexpr const char* kPartOfGroup = "no whole number of groups of few channels fills a vector";
constexpr const char* kLongSum = "the sum needs several levels of chains";

// Of sums or of grad_output, in bytes: the same on every processor, as the digits of forward and grad_input are.
constexpr int64_t kLargestRow = 128 << 10;

// Copies whose lanes are groups. With lanes along wider rows of results, fewer lanes are between images and behind the last
// one, and loops that copy whole rows are faster. Under a stride these sort the pixels of each row by phase, which takes longer.
struct MapLimits {
  int64_t pixels;  // of a row of results
  int64_t bytes;   // of the copies, on every processor

  static MapLimits of(const Gather& g) {
    return g.w.step > 1 ? MapLimits{28, 512 << 10} : MapLimits{10, 128 << 10};
  }
};

// Whether sources come too late by themselves: an image is larger than L2, and a stride needs several rows of it for one.
// Images of twice L2 gained up to a factor of two; smaller ones, and rows that share most of their sources, lost up to a
// fifth.
bool waits_for_rows(const Target& target, const Gather& g) {
  return g.h.step > 1 && target.exceeds_l2(product(g.h.S, g.w.S, g.groups) / 2);
}

bool is_long_sum(const Gather& g) {
  const int64_t chain = product(g.C, g.h.T, std::min<int64_t>(g.w.T, kMaxSlideTaps));
  const auto chains = static_cast<int64_t>(TapGroup::of(g.w, {0, g.w.T}, kMaxSlideTaps).size());
  return chain > longest_chain(product(g.C, g.taps())) || Chains::levels_of(chains) > 1;
}

}  // namespace

ChannelBlocking ChannelBlocking::of(const Target& target, const Gather& g) {
  const int64_t lanes = target.tiles.lanes;
  return {.lanes = lanes,
          .width = std::min<int64_t>(kMaxSlideVecs, g.groups / lanes) * lanes,
          .fetches_rows = waits_for_rows(target, g)};
}

const char* ChannelBlocking::why_not(const Target& target, const Gather& g) {
  if (target.tiles.pairs) return kPairs;
  if (g.source.c != 1 || g.destination.c != 1) return kNotAdjacent;
  if (g.C != 1) return kSeveralChannels;
  if (g.groups < target.tiles.lanes) return kFewChannels;
  const int64_t row = product(of(target, g).scratch_size(g), target.tiles.sum_bytes);
  if (row > kLargestRow) return kLongRow;
  return is_long_sum(g) ? kLongSum : nullptr;
}

MapBlocking MapBlocking::of(const Target& target, const Gather& g) {
  const ChannelBlocking channels = ChannelBlocking::of(target, g);
  return {channels, product(g.h.S, g.w.S, channels.width), product(g.h.D, g.w.D, channels.width)};
}

const char* MapBlocking::why_not(const Target& target, const Gather& g) {
  if (target.tiles.pairs) return kPairs;
  if (g.C != 1) return kSeveralChannels;
  if (g.groups < target.tiles.lanes) return kFewChannels;
  const MapLimits limits = MapLimits::of(g);
  if (g.w.D > limits.pixels) return kWideMap;
  if (g.h.pixel_step != 1 || g.w.pixel_step != 1) return kPhase;
  const int64_t maps = product(of(target, g).scratch_size(), target.tiles.sum_bytes);
  if (maps > limits.bytes) return kLargeMap;
  return is_long_sum(g) ? kLongSum : nullptr;
}

bool ChannelGroups::fill_vectors(int64_t lanes, bool strided) const {
  return 2 <= C && C <= M && M <= (strided ? lanes : lanes / 2) && lanes % M == 0 &&
         product(groups, C) >= lanes;
}

std::vector<VectorSources> VectorSources::of(const ChannelGroups& g,
                                             const std::vector<ChannelVectors>& vectors,
                                             int64_t lanes) {
  const int64_t last = product(g.groups, g.C) - lanes;  // whole vectors are read
  std::vector<VectorSources> all;
  all.reserve(vectors.size());
  for (const ChannelVectors& some : vectors) {
    VectorSources sources{std::min(some.first / g.M * g.C, last), {}};
    sources.index.reserve(lanes);
    for (int64_t lane : Range{0, lanes})
      sources.index.push_back((some.first + lane) / g.M * g.C - sources.first);
    all.push_back(std::move(sources));
  }
  return all;
}

GroupBlocking GroupBlocking::of(const Target& target) {
  return {{target.tiles.lanes, target.tiles.lanes, /*fetches_rows=*/false}};
}

const char* GroupBlocking::why_not(const Target& target, const Gather& g) {
  if (target.tiles.pairs) return kPairs;
  if (g.source.c != 1 || g.destination.c != 1) return kNotAdjacent;
  const bool strided = g.w.step > 1 || g.w.pixel_step > 1;
  if (!ChannelGroups{g.groups, g.M, g.C}.fill_vectors(target.tiles.lanes, strided))
    return kPartOfGroup;
  return is_long_sum(g) ? kLongSum : nullptr;
}

ChannelWeightBlocking ChannelWeightBlocking::of(const Target& target, const ConvShape& shape) {
  ChannelWeightBlocking b{};
  b.lanes = target.tiles.lanes, b.C = shape.C_in_per_group(), b.taps = shape.taps();
  b.groups = b.C == 1 ? shape.groups : shape.C_out;
  b.M = b.C == 1 ? shape.C_out_per_group() : 1;
  // Images that are larger than L2 gained up to a half, smaller ones lost up to a seventh.
  b.fetches_rows =
      b.M == 1 && b.C == 1 && target.exceeds_l2(product(shape.h.I, shape.w.I, shape.C_in));
  const int64_t vector = product(b.C, b.taps, target.tiles.vector_bytes());
  const int64_t fitting = std::max<int64_t>(1, target.cache.sixteenths(2) / vector);
  b.parts = Blocks::covering(ceil_div(b.groups, b.lanes), fitting);
  const int64_t rows = product(shape.N, shape.h.O);
  const int64_t wanted = std::min(rows, ceil_div(kReductionItems, b.parts.count));
  b.chunks = Blocks::covering(rows, ceil_div(rows, wanted));
  return b;
}

const char* ChannelWeightBlocking::why_not(const Target& target, const ConvShape& shape,
                                           const Strides& input, const Strides& grad_output) {
  if (shape.N == 0) return kNoImages;
  if (target.tiles.pairs) return kPairs;
  if (input.c != 1 || grad_output.c != 1) return kNotAdjacent;
  const int64_t C = shape.C_in_per_group();
  if (C == 1 && shape.groups < target.tiles.lanes) return kFewChannels;
  if (C != 1 && !ChannelGroups{shape.groups, shape.C_out_per_group(), C}.fill_vectors(
                    target.tiles.lanes, /*strided=*/false))
    return kPartOfGroup;
  const int64_t row = product(shape.w.O, target.tiles.vector_bytes());
  return row > kLargestRow ? kLongRow : nullptr;
}

}  // namespace convgrad::cpu
