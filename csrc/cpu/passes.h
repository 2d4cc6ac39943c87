// The three passes on the fast loops: operands -> plan -> run. Operands, and a bias, are of the type of sums.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "conv_shape.h"
#include "cpu/kernels/tiles.h"
#include "cpu/plan.h"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
void forward(const Tiles<Stored, Sum>& tiles, const ConvShape& whole, const at::Tensor& input,
             const at::Tensor& weight, const std::optional<at::Tensor>& bias, at::Tensor& output);

template <typename Stored, typename Sum>
void grad_input(const Tiles<Stored, Sum>& tiles, const ConvShape& whole, const at::Tensor& weight,
                const at::Tensor& grad_output, at::Tensor& grad_input);

template <typename Sum>
void grad_weight(const Tiles<Sum, Sum>& tiles, const ConvShape& whole, const at::Tensor& input,
                 const at::Tensor& grad_output, at::Tensor& grad_weight);

// For these tiles, on this processor, with the present cache sizes, costs and permissions.
Target target_of(const TileShape& tiles);

}  // namespace convgrad::cpu
