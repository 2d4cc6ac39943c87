// forward and grad_input as one loop nest: both gather a destination pixel from source pixels.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "conv_shape.h"
#include "cpu/tile.h"

namespace convgrad::cpu {

template <typename T>
void forward(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& input,
             const at::Tensor& weight, const std::optional<at::Tensor>& bias, at::Tensor& output);

template <typename T>
void grad_input(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& weight,
                const at::Tensor& grad_output, at::Tensor& grad_input);

}  // namespace convgrad::cpu
