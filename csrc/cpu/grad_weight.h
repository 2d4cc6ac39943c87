// grad_weight: the tile's lanes are output channels, its rows input channels, its sum the pixels.
#pragma once

#include <ATen/core/Tensor.h>

#include "conv_shape.h"
#include "cpu/tile.h"

namespace convgrad::cpu {

template <typename T>
void grad_weight(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& input,
                 const at::Tensor& grad_output, at::Tensor& grad_weight);

}  // namespace convgrad::cpu
