// The operators, for every device: their schemas, their checks and their results' memory. A kernel
// fills the result (registry.h). The derivatives are in autograd_node.cpp and convgrad_ext/autograd.py.
#include <ATen/ATen.h>
#include <ATen/core/stack.h>
#include <torch/library.h>

#include "conv_checks.h"
#include "registry.h"

namespace convgrad {
namespace {

using at::IntArrayRef;
using at::OptionalIntArrayRef;
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

// Tensors with data: check, allocate and let the kernel of their device and dtype fill the result.
namespace device {

const Kernel& kernel_of(const Tensor& tensor) {
  return kernel_for(tensor.device().type(), tensor.scalar_type());
}

Tensor conv2d(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
              IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups) {
  const ConvParams<int64_t> params{stride, padding, dilation, groups};
  const Kernel& kernel = kernel_of(input);
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
  const Kernel& kernel = kernel_of(weight);
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
  const Kernel& kernel = kernel_of(input);
  Tensor grad_weight = empty_grad_weight(input, weight_size, grad_output, params, grad_strides);
  if (grad_weight.numel() == 0) return grad_weight;
  kernel.grad_weight(make_conv_shape(input.sizes(), weight_size, params), input, grad_output,
                     grad_weight);
  return grad_weight;
}

void run_in(torch::Library& m) {
  m.impl("conv2d", conv2d);
  m.impl("conv2d_input", conv2d_input);
  m.impl("conv2d_weight", conv2d_weight);
}

}  // namespace device

// Boxed: it suits every schema. PyTorch would list all the backends that there are.
void refuse_layout(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& arguments = op.schema().arguments();
  const auto values = torch::jit::last(*stack, arguments.size());
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (!values[i].isTensor()) continue;
    const Tensor& tensor = values[i].toTensor();
    TORCH_CHECK_NOT_IMPLEMENTED(!tensor.is_nested(), "convgrad_ext: ", arguments[i].name(),
                                " must be a dense tensor, but got a nested one");
    TORCH_CHECK_NOT_IMPLEMENTED(tensor.layout() == at::kStrided,
                                "convgrad_ext: ", arguments[i].name(),
                                " must be a dense tensor, but got one of layout ", tensor.layout(),
                                ": call its to_dense() first");
  }
}

void refuse_in(torch::Library& m) {
  for (const char* name : {"conv2d", "conv2d_input", "conv2d_weight"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&refuse_layout>());
}

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

// The devices that have kernels. On another one PyTorch says that it could not run the operator there.
TORCH_LIBRARY_IMPL(convgrad_ext, CPU, m) { device::run_in(m); }

TORCH_LIBRARY_IMPL(convgrad_ext, MkldnnCPU, m) { refuse_in(m); }
TORCH_LIBRARY_IMPL(convgrad_ext, NestedTensorCPU, m) { refuse_in(m); }
TORCH_LIBRARY_IMPL(convgrad_ext, SparseCPU, m) { refuse_in(m); }
TORCH_LIBRARY_IMPL(convgrad_ext, SparseCsrCPU, m) { refuse_in(m); }

}  // namespace convgrad
