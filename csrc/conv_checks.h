// The checks and the allocation of every operator, before a loop runs. The messages are those of
// torch.nn.functional.conv2d wherever it refuses the same call.
#pragma once

#include <ATen/ATen.h>

#include <limits>
#include <optional>

#include "conv_shape.h"

namespace convgrad {

// The hyperparameters as the operators' schemas carry them; padding is (top, bottom, left, right).
// `Int` is int64_t, or c10::SymInt while a graph with dynamic sizes is traced.
template <typename Int>
struct ConvParams {
  c10::ArrayRef<Int> stride, padding, dilation;
  Int groups;
};

// The sum of two such extents, as two sides of padding have, is still an int64_t.
constexpr int64_t kLargestNumber = std::numeric_limits<int64_t>::max();
constexpr int64_t kLargestExtent = kLargestNumber / 2;

// The uninitialised result of each operator, after every check of its arguments. An output is
// channels_last as soon as one operand is, as PyTorch's is.
template <typename Int>
at::Tensor empty_output(const at::Tensor& input, const at::Tensor& weight,
                        const std::optional<at::Tensor>& bias, const ConvParams<Int>& params);

// A gradient has the strides of its tensor if the tensor's elements have no gaps; otherwise it is
// contiguous. This is the contract of torch's AccumulateGrad, which copies any other gradient. Without
// `grad_strides` it is channels_last if an operand is and not contiguous as well.
template <typename Int>
at::Tensor empty_grad_input(c10::ArrayRef<Int> input_size, const at::Tensor& weight,
                            const at::Tensor& grad_output, const ConvParams<Int>& params,
                            c10::OptionalArrayRef<Int> grad_strides = std::nullopt);
template <typename Int>
at::Tensor empty_grad_weight(const at::Tensor& input, c10::ArrayRef<Int> weight_size,
                             const at::Tensor& grad_output, const ConvParams<Int>& params,
                             c10::OptionalArrayRef<Int> grad_strides = std::nullopt);

// Sizes that passed these checks, as the loops take them.
ConvShape make_conv_shape(c10::IntArrayRef input_size, c10::IntArrayRef weight_size,
                          const ConvParams<int64_t>& params);

}  // namespace convgrad
