#include "reference/reference.h"

namespace convgrad::reference {
namespace {

// Pairs of a destination pixel and a tap are those of an output and a tap, or of an input and one of the taps
// of its phase.
double padded_share(Pass pass, const ConvShape& shape) {
  double pairs = 0, meetings = 0;
  const auto count = [&](const Walk& h, const Walk& w) {
    pairs += static_cast<double>(h.D * h.T) * static_cast<double>(w.D * w.T);
    meetings += static_cast<double>(h.meetings()) * static_cast<double>(w.meetings());
  };
  if (pass == Pass::kGradInput)
    for (int64_t h : Range{0, shape.h.phases()})
      for (int64_t w : Range{0, shape.w.phases()})
        count(shape.h.inputs_of_phase(h), shape.w.inputs_of_phase(w));
  else
    count(shape.h.outputs(), shape.w.outputs());
  return pairs > 0 ? 1 - meetings / pairs : 0;
}

}  // namespace

std::vector<PlanReport> plan(Pass pass, const ConvShape& shape, const at::Tensor& input,
                             const at::Tensor&, const at::Tensor&) {
  const bool has_tiles = input.scalar_type() == at::kFloat || input.scalar_type() == at::kDouble;
  return {{.path = "reference",
           .reason = has_tiles ? "the kernel 'reference' was asked for"
                               : "no other kernel takes this dtype",
           .phases = pass == Pass::kGradInput ? product(shape.h.phases(), shape.w.phases()) : 1,
           .blocking = {},
           .packed_bytes = 0,
           .scratch_bytes = 0,
           .padded_share = padded_share(pass, shape)}};
}

}  // namespace convgrad::reference
