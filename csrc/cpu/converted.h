// Passes of tensors whose numbers no tile multiplies. They become numbers that one does, some images at a
// time; sums run in these, and a result is rounded once, when it is stored.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "conv_shape.h"
#include "cpu/kernels/tiles.h"
#include "plan_report.h"

namespace convgrad::cpu {

// Half precision, in float32; integers of 8 bits, in float64, whose sums are exact; and complex numbers, as twice
// as many real channels.
bool is_converted(at::ScalarType dtype);

// The dtype of the tiles that serve a dtype: its own, or the one that it is converted to.
at::ScalarType dtype_of_tiles(at::ScalarType dtype);

template <typename Stored, typename Sum>
void forward_converted(const Tiles<Stored, Sum>& tiles, const ConvShape& shape,
                       const at::Tensor& input, const at::Tensor& weight,
                       const std::optional<at::Tensor>& bias, at::Tensor& output);

template <typename Stored, typename Sum>
void grad_input_converted(const Tiles<Stored, Sum>& tiles, const ConvShape& shape,
                          const at::Tensor& weight, const at::Tensor& grad_output,
                          at::Tensor& gradient);

template <typename Sum>
void grad_weight_converted(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                           const at::Tensor& input, const at::Tensor& grad_output,
                           at::Tensor& gradient);

// Of the pass that runs for a slice of the images.
std::vector<PlanReport> report_converted(Pass pass, const TileShape& tiles, const ConvShape& whole,
                                         const at::Tensor& input, const at::Tensor& weight,
                                         const at::Tensor& output);

}  // namespace convgrad::cpu
