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

Plan direct_plan(const Target& target, const Gather& g, const char* reason) {
  const DirectBlocking blocking = DirectBlocking::of(target, g);
  const PanelOrder order = PanelOrder::of(g, target.tiles.lanes);
  return {.path = "direct",
          .reason = reason,
          .blocking = blocking,
          .packed_bytes = product(order.packed_size(g, target.tiles.lanes), target.tiles.sum_bytes),
          .scratch_bytes = product(blocking.scratch_size(), target.tiles.sum_bytes)};
}

Plan pixelwise_plan(const Target& target, const Gather& g) {
  const PixelwiseBlocking blocking = PixelwiseBlocking::of(target, g);
  return {.path = "pixelwise",
          .reason = "pixels meet one tap: a product of matrices, whose lanes are pixels",
          .blocking = blocking,
          .packed_bytes = product(blocking.packed_size(g), target.tiles.sum_bytes),
          .scratch_bytes = product(blocking.scratch_size(), target.tiles.sum_bytes)};
}

constexpr const char* kFewChannels =
    "groups have few channels: lanes are pixels, and rows of pixels share their sources";

constexpr const char* kAdjacentChannels =
    "every channel is a group, and channels are adjacent: lanes are groups";

Plan channel_plan(const Target& target, const Gather& g) {
  const ChannelBlocking blocking = ChannelBlocking::of(target, g);
  return {.path = "depthwise",
          .reason = kAdjacentChannels,
          .blocking = blocking,
          .packed_bytes = product(blocking.packed_size(g), target.tiles.sum_bytes),
          .scratch_bytes = product(blocking.scratch_size(g), target.tiles.sum_bytes)};
}

Plan channel_plan(const Target& target, const ConvShape& shape) {
  const ChannelWeightBlocking blocking = ChannelWeightBlocking::of(target, shape);
  return {.path = "depthwise",
          .reason = kAdjacentChannels,
          .blocking = blocking,
          .packed_bytes = product(blocking.sums_size(), target.tiles.sum_bytes),
          .scratch_bytes = product(blocking.scratch_size(shape), target.tiles.sum_bytes)};
}

Plan plane_plan(const Target& target, const Gather& g) {
  const PlaneBlocking blocking = PlaneBlocking::of(target, g);
  return {.path = "depthwise",
          .reason = kFewChannels,
          .blocking = blocking,
          .packed_bytes = 0,
          .scratch_bytes = product(blocking.scratch_size(g), target.tiles.sum_bytes)};
}

Plan plane_plan(const Target& target, const ConvShape& shape) {
  const PlaneWeightBlocking blocking = PlaneWeightBlocking::of(target, shape);
  return {.path = "depthwise",
          .reason = kFewChannels,
          .blocking = blocking,
          .packed_bytes = product(blocking.taps_size(shape), target.tiles.sum_bytes),
          .scratch_bytes = product(blocking.scratch_size(), target.tiles.sum_bytes)};
}

constexpr const char* kWinogradPays =
    "Winograd is allowed, and saves more multiplications than its transforms cost";

Plan winograd_plan(const Target& target, const Gather& g) {
  const WinogradBlocking blocking = WinogradBlocking::of(target, g);
  const int64_t bytes = target.tiles.sum_bytes;
  return {.path = "winograd",
          .reason = kWinogradPays,
          .blocking = blocking,
          .packed_bytes = product(blocking.packed_size(g), bytes),
          .scratch_bytes = product(WinogradScratch<float>::size(blocking), bytes)};
}

}  // namespace

Plan plan_gather(const Target& target, const Gather& g) {
  if (g.taps() == 0) return {"zeros", "no tap meets these pixels", std::monostate{}, 0, 0};
  if (!ChannelBlocking::why_not(target, g)) return channel_plan(target, g);
  if (!PlaneBlocking::why_not(target, g)) return plane_plan(target, g);
  const char* const not_pixelwise = why_not_pixelwise(target, g);
  if (!not_pixelwise) return pixelwise_plan(target, g);
  const char* const not_winograd = why_not_winograd(target, g);
  if (!not_winograd) return winograd_plan(target, g);
  return direct_plan(target, g, g.taps() == 1 ? not_pixelwise : not_winograd);
}

Plan plan_grad_weight(const Target& target, const ConvShape& shape, const PassStrides& strides) {
  const int64_t bytes = target.tiles.sum_bytes;
  if (!ChannelWeightBlocking::why_not(target, shape, strides.input, strides.output))
    return channel_plan(target, shape);
  if (!PlaneWeightBlocking::why_not(target, shape, strides.input)) return plane_plan(target, shape);
  const char* const not_winograd = why_not_winograd(target, shape);
  if (!not_winograd) {
    const auto blocking = WinogradWeightBlocking::of(target, shape);
    const int64_t chunks = blocking.chunks.count > 1 ? blocking.chunks.count : 0;
    return {.path = "winograd",
            .reason = kWinogradPays,
            .blocking = blocking,
            .packed_bytes = product(chunks, blocking.sums_size(), bytes),
            .scratch_bytes = product(WinogradWeightScratch<float>::size(blocking), bytes)};
  }
  const WeightBlocking blocking = WeightBlocking::of(target, shape, strides.input);
  return {.path = "direct",
          .reason = not_winograd,
          .blocking = blocking,
          .packed_bytes = product(blocking.chunks_of_item(), blocking.sums_size(), bytes),
          .scratch_bytes = product(blocking.scratch_size(), bytes)};
}

}  // namespace convgrad::cpu
