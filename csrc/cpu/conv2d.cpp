// The CPU's side of the operators: check and allocate, then hand over to a kernel.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "conv_checks.h"
#include "cpu/kernel.h"

namespace convgrad::cpu {
namespace {

using at::IntArrayRef;
using at::OptionalIntArrayRef;
using at::Tensor;

Tensor conv2d(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
              IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups) {
  const ConvParams<int64_t> params{stride, padding, dilation, groups};
  const Kernel& kernel = kernel_for(input.scalar_type());
  Tensor output = empty_output(input, weight, bias, params);
  if (output.numel() == 0) return output;
  kernel.forward(make_conv_shape(input.sizes(), weight.sizes(), params), input, weight, bias,
                 output);
  return output;
}

Tensor conv2d_input(IntArrayRef input_size, const Tensor& weight, const Tensor& grad_output,
                    IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups,
                    OptionalIntArrayRef grad_strides) {
  const ConvParams<int64_t> params{stride, padding, dilation, groups};
  const Kernel& kernel = kernel_for(weight.scalar_type());
  Tensor grad_input = empty_grad_input(input_size, weight, grad_output, params, grad_strides);
  if (grad_input.numel() == 0) return grad_input;
  kernel.grad_input(make_conv_shape(input_size, weight.sizes(), params), weight, grad_output,
                    grad_input);
  return grad_input;
}

Tensor conv2d_weight(const Tensor& input, IntArrayRef weight_size, const Tensor& grad_output,
                     IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups,
                     OptionalIntArrayRef grad_strides) {
  const ConvParams<int64_t> params{stride, padding, dilation, groups};
  const Kernel& kernel = kernel_for(input.scalar_type());
  Tensor grad_weight = empty_grad_weight(input, weight_size, grad_output, params, grad_strides);
  if (grad_weight.numel() == 0) return grad_weight;
  kernel.grad_weight(make_conv_shape(input.sizes(), weight_size, params), input, grad_output,
                     grad_weight);
  return grad_weight;
}

}  // namespace

TORCH_LIBRARY_IMPL(convgrad_ext, CPU, m) {
  m.impl("conv2d", conv2d);
  m.impl("conv2d_input", conv2d_input);
  m.impl("conv2d_weight", conv2d_weight);
}

}  // namespace convgrad::cpu
