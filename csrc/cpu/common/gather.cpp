#include "cpu/common/gather.h"

#include <utility>

namespace convgrad::cpu {

Problem Problem::with_pieces_as_pixels() const {
  const int64_t C = shape.C_in;
  const auto follow = [&](const Strides& s) { return s.w == place(C, s.c); };
  if (shape.groups > 1 || !shape.w.is_in_pieces() || !follow(strides.input) ||
      !follow(strides.weight))
    return *this;
  Problem pieces = *this;
  pieces.shape.C_in = product(C, shape.w.K);
  pieces.shape.w = shape.w.of_pieces();
  pieces.strides.input.w = place(shape.w.K, strides.input.w);
  return pieces;
}

Problem Problem::with_patches_as_channels() const {
  // Lanes are those of AVX-512. With fewer filters, a sum is shorter than the store of its result.
  constexpr int64_t kFewestLanes = 16, kFewestFilters = 16;
  const int64_t taps = shape.taps();
  const Strides &weight = strides.weight, &input = strides.input;
  const bool gapless =
      weight.h == place(shape.w.K, weight.w) && weight.c == place(shape.h.K, weight.h);
  if (shape.groups > 1 || !shape.h.is_in_pieces() || !shape.w.is_in_pieces() || !gapless ||
      input.w != 1 || shape.C_out < kFewestFilters || product(shape.C_in, taps) < kFewestLanes)
    return *this;
  Problem patches = *this;
  patches.patch = {shape.h.K, shape.w.K, input.h, input.w};
  patches.shape.C_in = product(shape.C_in, taps);
  patches.shape.h = shape.h.of_pieces(), patches.shape.w = shape.w.of_pieces();
  patches.strides.weight.c = weight.w;
  patches.strides.input.h = place(shape.h.K, input.h);
  patches.strides.input.w = place(shape.w.K, input.w);
  return patches;
}

Gather gather_of_forward(const ConvShape& shape, const PassStrides& strides) {
  const int64_t M = shape.C_out_per_group();
  return {.h = shape.h.outputs(),
          .w = shape.w.outputs(),
          .N = shape.N,
          .groups = shape.groups,
          .M = M,
          .C = shape.C_in_per_group(),
          .source = strides.input,
          .destination = strides.output,
          .weight = strides.weight,
          .weight_of_group = M * strides.weight.n,
          .filters_are_lanes = true,
          .patch = {}};
}

Gather gather_of_grad_input(const Problem& problem) {
  const auto& [shape, strides, patch] = problem;
  const int64_t C = shape.C_out_per_group();
  Strides transposed = strides.weight;
  std::swap(transposed.n, transposed.c);  // the lanes are the input's channels now
  return {.h = shape.h.outputs(),
          .w = shape.w.outputs(),
          .N = shape.N,
          .groups = shape.groups,
          .M = shape.C_in_per_group(),
          .C = C,
          .source = strides.output,
          .destination = strides.input,
          .weight = transposed,
          .weight_of_group = C * strides.weight.n,
          .filters_are_lanes = false,
          .patch = patch};
}

Gather phase_of(const Gather& grad_input, const ConvShape& shape, int64_t h, int64_t w) {
  Gather phase = grad_input;
  phase.h = shape.h.inputs_of_phase(h), phase.w = shape.w.inputs_of_phase(w);
  return phase;
}

}  // namespace convgrad::cpu
