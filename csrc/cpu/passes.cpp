#include "cpu/passes.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "cpu/depthwise/gather_channels.h"
#include "cpu/depthwise/gather_groups.h"
#include "cpu/depthwise/gather_maps.h"
#include "cpu/depthwise/gather_planes.h"
#include "cpu/depthwise/phases.h"
#include "cpu/depthwise/weight_channels.h"
#include "cpu/depthwise/weight_planes.h"
#include "cpu/direct/gather.h"
#include "cpu/direct/grad_weight.h"
#include "cpu/pixelwise/gather.h"
#include "cpu/report.h"
#include "cpu/rowwise/gather.h"
#include "cpu/winograd/gather.h"
#include "cpu/winograd/grad_weight.h"
#include "cpu/winograd/permission.h"

namespace convgrad::cpu {
namespace {

// The weight of a pass in panels, packed when the first phase needs it. It serves all phases: each has taps
// of its own.
template <typename Sum>
class Panels {
 public:
  // `whole` has all the taps.
  Panels(const SumTiles<Sum>& tiles, const Gather& whole, const Sum* weight)
      : order(PanelOrder::of(whole, tiles.lanes)), tiles(tiles), whole(whole), weight(weight) {}

  const PanelOrder order;

  const Sum* data() {
    if (!packed.defined()) packed = WeightPacking<Sum>(tiles, whole, weight, order).run();
    return packed.template const_data_ptr<Sum>();
  }

 private:
  const SumTiles<Sum>& tiles;
  const Gather& whole;
  const Sum* weight;
  at::Tensor packed;
};

template <typename Stored, typename Sum>
void run_gather(const Tiles<Stored, Sum>& tiles, const Target& target, const Gather& g,
                const Operands<Stored, Sum>& operands, Panels<Sum>& panels) {
  const Blocking blocking = plan_gather(target, g).blocking;
  if (const auto* direct = std::get_if<DirectBlocking>(&blocking))
    gather_direct(tiles, g, operands, *direct, panels.data(), panels.order);
  else if (const auto* pixelwise = std::get_if<PixelwiseBlocking>(&blocking))
    gather_pixelwise(tiles, g, operands, *pixelwise);
  else if (const auto* channels = std::get_if<ChannelBlocking>(&blocking))
    gather_channels(tiles, g, operands, *channels);
  else if (const auto* maps = std::get_if<MapBlocking>(&blocking))
    gather_maps(tiles, g, operands, *maps);
  else if (const auto* groups = std::get_if<GroupBlocking>(&blocking))
    gather_groups(tiles, g, operands, *groups);
  else if (const auto* planes = std::get_if<PlaneBlocking>(&blocking))
    gather_planes(tiles, g, operands, *planes);
  else if (const auto* rowwise = std::get_if<RowwiseBlocking>(&blocking))
    gather_rowwise(tiles, g, operands, *rowwise);
  else if (const auto* winograd = std::get_if<WinogradBlocking>(&blocking))
    gather_winograd(tiles, g, operands, *winograd);
}

// Whether a phase of the input meets no tap: its gradient is zero.
bool some_phase_is_empty(const Axis& axis) {
  for (int64_t first : Range{0, axis.phases()})
    if (axis.inputs_of_phase(first).T == 0) return true;
  return false;
}

}  // namespace

Target target_of(const TileShape& tiles) {
  return {tiles, budget(), costs_of(tiles.isa), winograd_is_allowed(), at::get_num_threads()};
}

template <typename Stored, typename Sum>
void forward(const Tiles<Stored, Sum>& tiles, const ConvShape& whole, const at::Tensor& input,
             const at::Tensor& weight, const std::optional<at::Tensor>& bias, at::Tensor& output) {
  const PassStrides of_tensors{Strides::of(input), Strides::of(weight), Strides::of(output)};
  log_plan(Pass::kForward, tiles, whole, of_tensors);
  const Problem problem = Problem{whole, of_tensors, {}}.with_pieces_as_pixels();
  const ConvShape& shape = problem.shape;
  const PassStrides& strides = problem.strides;
  const at::Tensor sums = bias ? bias->contiguous() : at::Tensor();
  const Operands<Stored, Sum> operands{input.const_data_ptr<Sum>(), weight.const_data_ptr<Sum>(),
                                       output.mutable_data_ptr<Stored>(),
                                       bias ? sums.const_data_ptr<Sum>() : nullptr};
  const Gather g = gather_of_forward(shape, strides);
  Panels<Sum> panels(tiles, g, operands.weight);
  run_gather(tiles, target_of(tiles), g, operands, panels);
}

template <typename Stored, typename Sum>
void grad_input(const Tiles<Stored, Sum>& tiles, const ConvShape& whole, const at::Tensor& weight,
                const at::Tensor& grad_output, at::Tensor& grad_input) {
  const PassStrides of_tensors{Strides::of(grad_input), Strides::of(weight),
                               Strides::of(grad_output)};
  log_plan(Pass::kGradInput, tiles, whole, of_tensors);
  const Problem problem =
      Problem{whole, of_tensors, {}}.with_pieces_as_pixels().with_patches_as_channels();
  const ConvShape& shape = problem.shape;
  const Operands<Stored, Sum> operands{grad_output.const_data_ptr<Sum>(),
                                       weight.const_data_ptr<Sum>(),
                                       grad_input.mutable_data_ptr<Stored>(), nullptr};
  const Gather g = gather_of_grad_input(problem);
  const Target target = target_of(tiles);
  if (some_phase_is_empty(shape.h) || some_phase_is_empty(shape.w)) grad_input.zero_();
  if (phases_are_depthwise(target, g, shape))
    return gather_phases(tiles, target, g, shape, operands);
  Panels<Sum> panels(tiles, g, operands.weight);
  for_each_phase(g, shape,
                 [&](const Gather& phase) { run_gather(tiles, target, phase, operands, panels); });
}

template <typename Sum>
void grad_weight(const Tiles<Sum, Sum>& tiles, const ConvShape& whole, const at::Tensor& input,
                 const at::Tensor& grad_output, at::Tensor& grad_weight) {
  const PassStrides of_tensors{Strides::of(input), Strides::of(grad_weight),
                               Strides::of(grad_output)};
  log_plan(Pass::kGradWeight, tiles, whole, of_tensors);
  const Problem problem = Problem{whole, of_tensors, {}}.with_pieces_as_pixels();
  const ConvShape& shape = problem.shape;
  const PassStrides& strides = problem.strides;
  const WeightOperands<Sum> operands{{strides.input, input.const_data_ptr<Sum>()},
                                     {strides.output, grad_output.const_data_ptr<Sum>()},
                                     {strides.weight, grad_weight.mutable_data_ptr<Sum>()}};
  const Blocking blocking = plan_grad_weight(target_of(tiles), shape, strides).blocking;
  if (const auto* winograd = std::get_if<WinogradWeightBlocking>(&blocking))
    return grad_weight_winograd(tiles, shape, *winograd, operands);
  if (const auto* channels = std::get_if<ChannelWeightBlocking>(&blocking))
    return weight_channels(tiles, shape, *channels, operands);
  if (const auto* planes = std::get_if<PlaneWeightBlocking>(&blocking))
    return weight_planes(tiles, shape, *planes, operands);
  grad_weight_direct(tiles, shape, std::get<WeightBlocking>(blocking), operands);
}

template void forward(const Tiles<float, float>&, const ConvShape&, const at::Tensor&,
                      const at::Tensor&, const std::optional<at::Tensor>&, at::Tensor&);
template void forward(const Tiles<at::BFloat16, float>&, const ConvShape&, const at::Tensor&,
                      const at::Tensor&, const std::optional<at::Tensor>&, at::Tensor&);
template void forward(const Tiles<double, double>&, const ConvShape&, const at::Tensor&,
                      const at::Tensor&, const std::optional<at::Tensor>&, at::Tensor&);
template void grad_input(const Tiles<float, float>&, const ConvShape&, const at::Tensor&,
                         const at::Tensor&, at::Tensor&);
template void grad_input(const Tiles<at::BFloat16, float>&, const ConvShape&, const at::Tensor&,
                         const at::Tensor&, at::Tensor&);
template void grad_input(const Tiles<double, double>&, const ConvShape&, const at::Tensor&,
                         const at::Tensor&, at::Tensor&);
template void grad_weight(const Tiles<float, float>&, const ConvShape&, const at::Tensor&,
                          const at::Tensor&, at::Tensor&);
template void grad_weight(const Tiles<double, double>&, const ConvShape&, const at::Tensor&,
                          const at::Tensor&, at::Tensor&);

}  // namespace convgrad::cpu
