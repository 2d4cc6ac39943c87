#include "cpu/depthwise/phases.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "cpu/common/blocks.h"
#include "cpu/depthwise/gather_channels.h"
#include "cpu/depthwise/gather_planes.h"

namespace convgrad::cpu {
namespace {

bool takes_channels(const Target& target, const Gather& g) {
  return !ChannelBlocking::why_not(target, g);
}
// As plan_gather asks; maps are no phase among several.
bool takes_planes(const Target& target, const Gather& g) {
  return !takes_channels(target, g) && GroupBlocking::why_not(target, g) &&
         !PlaneBlocking::why_not(target, g);
}

// Some groups of some images, whose sources fit into a part of the cache.
struct Parts {
  Blocks groups, images;

  static Parts of(const Target& target, const Gather& whole, const ConvShape& shape) {
    const int64_t plane = product(whole.C, shape.output_pixels(), target.tiles.sum_bytes);
    const int64_t planes = std::max<int64_t>(1, target.cache.sixteenths(4) / plane);
    const bool adjacent = whole.source.c == 1;  // a row has the channels of all groups
    const Blocks groups = Blocks::covering(
        whole.groups,
        adjacent ? whole.groups : std::max<int64_t>(1, planes / PlaneRow::kMostImages));
    return {groups, Blocks::covering(whole.N, std::clamp<int64_t>(planes / groups.size, 1,
                                                                  PlaneRow::kMostImages))};
  }
};

template <typename Stored, typename Sum>
Operands<Stored, Sum> operands_of(const Operands<Stored, Sum>& all, const Gather& g, int64_t n,
                                  int64_t group) {
  return {.source = all.source_at(g, n, group * g.C),
          .weight = all.weight + group * g.weight_of_group,
          .destination = all.destination_at(g, n, group * g.M),
          .bias = nullptr};
}

}  // namespace

bool phases_are_depthwise(const Target& target, const Gather& grad_input, const ConvShape& shape) {
  if (shape.h.phases() * shape.w.phases() == 1) return false;
  bool channels = true, planes = true;
  for_each_phase(grad_input, shape, [&](const Gather& phase) {
    if (phase.taps() == 0) return;
    channels = channels && takes_channels(target, phase);
    planes = planes && takes_planes(target, phase);
  });
  return channels || planes;
}

// Part by part: its phases find the sources in the cache, and complete the cache lines of its destination there.
template <typename Stored, typename Sum>
void gather_phases(const Tiles<Stored, Sum>& tiles, const Target& target, const Gather& grad_input,
                   const ConvShape& shape, const Operands<Stored, Sum>& operands) {
  const Parts parts = Parts::of(target, grad_input, shape);
  const Blocks &groups = parts.groups, &images = parts.images;
  at::parallel_for(0, groups.count * images.count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i : Range{begin, end}) {
      const Range some = groups.at(i % groups.count, grad_input.groups);
      const Range n = images.at(i / groups.count, grad_input.N);
      const auto of_part = operands_of(operands, grad_input, n.lo, some.lo);
      Gather part = grad_input;
      part.N = n.size(), part.groups = some.size();
      for_each_phase(part, shape, [&](const Gather& phase) {
        if (phase.taps() == 0) return;
        if (takes_channels(target, phase))
          gather_channels(tiles, phase, of_part, ChannelBlocking::of(target, phase));
        else
          gather_planes(tiles, phase, of_part, PlaneBlocking::of(target, phase));
      });
    }
  });
}

template void gather_phases(const Tiles<float, float>&, const Target&, const Gather&,
                            const ConvShape&, const Operands<float, float>&);
template void gather_phases(const Tiles<at::BFloat16, float>&, const Target&, const Gather&,
                            const ConvShape&, const Operands<at::BFloat16, float>&);
template void gather_phases(const Tiles<double, double>&, const Target&, const Gather&,
                            const ConvShape&, const Operands<double, double>&);

}  // namespace convgrad::cpu
