// The operators: their schemas, their shapes without data, and what stays below autograd.
#include <ATen/ATen.h>
#include <c10/core/AutogradState.h>
#include <torch/library.h>

#include "conv_checks.h"

namespace convgrad {
namespace {

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
                    SymInt groups) {
  return empty_grad_input<SymInt>(input_size, weight, grad_output,
                                  {stride, padding, dilation, groups});
}

Tensor conv2d_weight(const Tensor& input, SymIntArrayRef weight_size, const Tensor& grad_output,
                     SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                     SymInt groups) {
  return empty_grad_weight<SymInt>(input, weight_size, grad_output,
                                   {stride, padding, dilation, groups});
}

}  // namespace meta

// Forward mode lives in the autograd Functions of the Python package. An operator that is called
// past them, as in a traced graph, has no rule for a tangent and would drop it without a word.
template <typename T>
void refuse_tangent(const T&) {}
void refuse_tangent(const Tensor& tensor) {
  TORCH_CHECK_NOT_IMPLEMENTED(
      !tensor.defined() || !tensor._fw_grad(/*level=*/0).defined(),
      "convgrad_ext: forward-mode differentiation (jvp, jacfwd, hessian) of a convolution inside "
      "torch.compile or torch.export is not supported; differentiate outside of the graph");
}
void refuse_tangent(const std::optional<Tensor>& tensor) {
  if (tensor) refuse_tangent(*tensor);
}

constexpr char kConv2d[] = "convgrad_ext::conv2d";
constexpr char kConv2dInput[] = "convgrad_ext::conv2d_input";
constexpr char kConv2dWeight[] = "convgrad_ext::conv2d_weight";

// The operator `name` with that refusal in front; its signature is read off its meta function.
template <const char* name, typename... Args>
auto refusing_tangents(Tensor (*)(Args...)) {
  return +[](c10::DispatchKeySet keys, Args... args) -> Tensor {
    static const auto op =
        c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Tensor(Args...)>();
    if (c10::AutogradState::get_tls_state().get_fw_grad_mode()) (refuse_tangent(args), ...);
    return op.redispatch(keys & c10::after_ADInplaceOrView_keyset, std::forward<Args>(args)...);
  };
}

}  // namespace

// Padding is (top, bottom, left, right). conv2d_input and conv2d_weight are the gradients of conv2d:
// for complex numbers they conjugate the other factor.
TORCH_LIBRARY(convgrad_ext, m) {
  m.set_python_module("convgrad_ext.autograd");
  m.def(
      "conv2d(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] padding, "
      "SymInt[] dilation, SymInt groups) -> Tensor");
  m.def(
      "conv2d_input(SymInt[] input_size, Tensor weight, Tensor grad_output, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, SymInt groups) -> Tensor");
  m.def(
      "conv2d_weight(Tensor input, SymInt[] weight_size, Tensor grad_output, SymInt[] stride, "
      "SymInt[] padding, SymInt[] dilation, SymInt groups) -> Tensor");
}

TORCH_LIBRARY_IMPL(convgrad_ext, Meta, m) {
  m.impl("conv2d", meta::conv2d);
  m.impl("conv2d_input", meta::conv2d_input);
  m.impl("conv2d_weight", meta::conv2d_weight);
}

TORCH_LIBRARY_IMPL(convgrad_ext, ADInplaceOrView, m) {
  m.impl("conv2d", refusing_tangents<kConv2d>(meta::conv2d));
  m.impl("conv2d_input", refusing_tangents<kConv2dInput>(meta::conv2d_input));
  m.impl("conv2d_weight", refusing_tangents<kConv2dWeight>(meta::conv2d_weight));
}

}  // namespace convgrad
