// The operators: their schemas and their shapes without data. Their derivatives are in
// convgrad_ext/autograd.py, their loops in cpu/.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "conv_checks.h"

namespace convgrad {
namespace {

using at::OptionalSymIntArrayRef;
using at::Tensor;
using c10::SymInt;
using c10::SymIntArrayRef;

// Tensors without data: shape propagation on the meta device and under tracing.
namespace meta {

Tensor conv2d(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
              SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
              SymInt groups) {
  return empty_output<SymInt>(input, weight, bias, {stride, padding, dilation, groups});
}

Tensor conv2d_input(SymIntArrayRef input_size, const Tensor& weight, const Tensor& grad_output,
                    SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                    SymInt groups, OptionalSymIntArrayRef grad_strides) {
  return empty_grad_input<SymInt>(input_size, weight, grad_output,
                                  {stride, padding, dilation, groups}, grad_strides);
}

Tensor conv2d_weight(const Tensor& input, SymIntArrayRef weight_size, const Tensor& grad_output,
                     SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                     SymInt groups, OptionalSymIntArrayRef grad_strides) {
  return empty_grad_weight<SymInt>(input, weight_size, grad_output,
                                   {stride, padding, dilation, groups}, grad_strides);
}

}  // namespace meta

}  // namespace

// Padding is (top, bottom, left, right). conv2d_input and conv2d_weight are the gradients of conv2d:
// for complex numbers they conjugate the other factor. Their last argument, `grad_strides`, is the strides
// of the tensor whose gradient they are, which then has the same; see conv_checks.h.
TORCH_LIBRARY(convgrad_ext, m) {
  m.set_python_module("convgrad_ext.autograd");
  m.def(
      "conv2d(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] padding, "
      "SymInt[] dilation, SymInt groups) -> Tensor");
  m.def(
      "conv2d_input(SymInt[] input_size, Tensor weight, Tensor grad_output, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, SymInt groups, SymInt[]? grad_strides=None) -> Tensor");
  m.def(
      "conv2d_weight(Tensor input, SymInt[] weight_size, Tensor grad_output, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, SymInt groups, SymInt[]? grad_strides=None) -> Tensor");
}

TORCH_LIBRARY_IMPL(convgrad_ext, Meta, m) {
  m.impl("conv2d", meta::conv2d);
  m.impl("conv2d_input", meta::conv2d_input);
  m.impl("conv2d_weight", meta::conv2d_weight);
}

}  // namespace convgrad
