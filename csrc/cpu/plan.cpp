#include "cpu/plan.h"

#include "cpu/common/chains.h"
#include "cpu/common/panels.h"
#include "cpu/winograd/choice.h"

namespace convgrad::cpu {
namespace {

// Null if the lanes can be pixels.
const char* why_not_pixelwise(const Target& target, const Gather& g) {
  constexpr int64_t kSliceSixteenths = 12;  // of the scratch, for one slice
  if (g.taps() != 1) return "pixels meet several taps";
  if (g.source.c == 1 || g.destination.c == 1)
    return "channels_last: channels are adjacent, and lanes without a transposition";
  if (g.M < target.tiles.max_rows(PixelwiseBlocking::kVecs))
    return "too few channels of the destination to fill the rows of a tile of pixels";
  if (PixelwiseBlocking::slice_bytes(target.tiles, g) > target.cache.sixteenths(kSliceSixteenths))
    return "a slice of pixels would be larger than the cache";
  if (Chains::levels_of(Chains::of(g.C, 1, 1).count()) > 1)
    return "the sum needs several levels of chains";
  return nullptr;
}

// Sizes in elements of the sums' type.
struct Sizes {
  int64_t packed, scratch;
};

Plan plan_of(const char* path, const char* reason, const Target& target, const Blocking& blocking,
             Sizes sizes) {
  const int64_t bytes = target.tiles.sum_bytes;
  return {.path = path,
          .reason = reason,
          .blocking = blocking,
          .packed_bytes = product(sizes.packed, bytes),
          .scratch_bytes = product(sizes.scratch, bytes)};
}

Plan direct_plan(const Target& target, const Gather& g, const char* reason) {
  const DirectBlocking b = DirectBlocking::of(target, g);
  const int64_t packed = PanelOrder::of(g, b.lanes).packed_size(g, b.lanes);
  return plan_of("direct", reason, target, b, {packed, b.scratch_size()});
}

Plan pixelwise_plan(const Target& target, const Gather& g) {
  const PixelwiseBlocking b = PixelwiseBlocking::of(target, g);
  return plan_of("pixelwise", "pixels meet one tap: a product of matrices, whose lanes are pixels",
                 target, b, {b.packed_size(g), b.scratch_size()});
}

constexpr const char* kAdjacentChannels =
    "every channel is a group, and channels are adjacent: lanes are groups";
constexpr const char* kNarrowMaps =
    "every channel is a group, and rows of pixels are narrow: lanes are groups";
constexpr const char* kAdjacentGroups =
    "groups have few channels, and channels are adjacent: lanes are channels of several groups";
constexpr const char* kFewChannels =
    "groups have few channels: lanes are pixels, and rows of pixels share their sources";

Plan channel_plan(const Target& target, const Gather& g) {
  const ChannelBlocking b = ChannelBlocking::of(target, g);
  return plan_of("depthwise", kAdjacentChannels, target, b, {b.packed_size(g), b.scratch_size(g)});
}

Plan map_plan(const Target& target, const Gather& g) {
  const MapBlocking b = MapBlocking::of(target, g);
  return plan_of("depthwise", kNarrowMaps, target, b,
                 {b.channels.packed_size(g), b.scratch_size()});
}

Plan group_plan(const Target& target, const Gather& g) {
  const GroupBlocking b = GroupBlocking::of(target);
  const Gather over_channels = b.over_channels(g);
  return plan_of(
      "depthwise", kAdjacentGroups, target, b,
      {b.channels.packed_size(over_channels), b.scratch_size(target.tiles, over_channels)});
}

Plan plane_plan(const Target& target, const Gather& g) {
  const PlaneBlocking b = PlaneBlocking::of(target, g);
  return plan_of("depthwise", kFewChannels, target, b, {0, b.scratch_size(g)});
}

Plan rowwise_plan(const Target& target, const Gather& g) {
  const RowwiseBlocking b = RowwiseBlocking::of(target, g);
  return plan_of("rowwise", "pixels of a row fill more lanes than channels of the destination do",
                 target, b, {b.packed_size(g), b.scratch_size(g)});
}

constexpr const char* kWinogradPays =
    "Winograd is allowed, and saves more multiplications than its transforms cost";

Plan winograd_plan(const Target& target, const Gather& g) {
  const WinogradBlocking b = WinogradBlocking::of(target, g);
  return plan_of("winograd", kWinogradPays, target, b,
                 {b.packed_size(g), WinogradScratch<float>::size(b)});
}

// Of grad_weight.

Plan channel_plan(const Target& target, const ConvShape& shape) {
  const ChannelWeightBlocking b = ChannelWeightBlocking::of(target, shape);
  return plan_of("depthwise", b.C == 1 ? kAdjacentChannels : kAdjacentGroups, target, b,
                 {b.sums_size(), b.scratch_size(shape)});
}

Plan plane_plan(const Target& target, const ConvShape& shape) {
  const PlaneWeightBlocking b = PlaneWeightBlocking::of(target, shape);
  return plan_of("depthwise", kFewChannels, target, b, {b.taps_size(shape), b.scratch_size()});
}

Plan winograd_plan(const Target& target, const ConvShape& shape) {
  const WinogradWeightBlocking b = WinogradWeightBlocking::of(target, shape);
  const int64_t chunks = b.chunks.count > 1 ? b.chunks.count : 0;
  return plan_of("winograd", kWinogradPays, target, b,
                 {product(chunks, b.sums_size()), WinogradWeightScratch<float>::size(b)});
}

Plan direct_plan(const Target& target, const ConvShape& shape, const PassStrides& strides,
                 const char* reason) {
  const WeightBlocking b = WeightBlocking::of(target, shape, strides);
  return plan_of("direct", reason, target, b,
                 {product(b.chunks_of_item(), b.sums_size()), b.scratch_size()});
}

}  // namespace

Plan plan_gather(const Target& target, const Gather& g) {
  if (g.patch.size() > 0)
    return direct_plan(target, g, "patches share no pixel: lanes are the pixels of a patch");
  if (g.taps() == 0) return {"zeros", "no tap meets these pixels", std::monostate{}, 0, 0};
  if (!ChannelBlocking::why_not(target, g)) return channel_plan(target, g);
  if (!MapBlocking::why_not(target, g)) return map_plan(target, g);
  if (!GroupBlocking::why_not(target, g)) return group_plan(target, g);
  if (!PlaneBlocking::why_not(target, g)) return plane_plan(target, g);
  const char* const not_pixelwise = why_not_pixelwise(target, g);
  if (!not_pixelwise) return pixelwise_plan(target, g);
  const char* const not_winograd = why_not_winograd(target, g);
  if (!not_winograd) return winograd_plan(target, g);
  if (!RowwiseBlocking::why_not(target, g)) return rowwise_plan(target, g);
  return direct_plan(target, g, g.taps() == 1 ? not_pixelwise : not_winograd);
}

Plan plan_grad_weight(const Target& target, const ConvShape& shape, const PassStrides& strides) {
  if (!ChannelWeightBlocking::why_not(target, shape, strides.input, strides.output))
    return channel_plan(target, shape);
  if (!PlaneWeightBlocking::why_not(target, shape, strides.input)) return plane_plan(target, shape);
  const char* const not_winograd = why_not_winograd(target, shape);
  if (!not_winograd) return winograd_plan(target, shape);
  return direct_plan(target, shape, strides, not_winograd);
}

}  // namespace convgrad::cpu
