// Where a call with CPU tensors meets autograd. Three ways lead on:
//
// - nothing to record: straight to the loops;
// - reverse mode: to the loops, and autograd_node.h records the call;
// - tangents, tracing and subclasses: to the rules, which are the Functions of convgrad_ext/autograd.py. Entering
//   Python costs several times what a small convolution does.
//
// torch.func runs a call level by level. So within it, "the loops" are the next level, as for PyTorch's own operators.
#include "autograd_entry.h"

#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <utility>

#include "autograd_node.h"
#include "operators.h"

namespace convgrad {
namespace {

using c10::DispatchKey;
using c10::DispatchKeySet;

thread_local bool only_python_records = false;

// Subclasses, FakeTensor among them, and modes such as make_fx's.
bool reaches_python(DispatchKeySet keys) {
  return keys.has(DispatchKey::Python) || keys.has(DispatchKey::PythonTLSSnapshot);
}

bool has_symbols(const Tensor& tensor) {
  return tensor.unsafeGetTensorImpl()->has_symbolic_sizes_strides();
}

template <size_t N>
std::array<int64_t, N> numbers(SymIntArrayRef symbols) {
  std::array<int64_t, N> all{};
  std::transform(symbols.begin(), symbols.end(), all.begin(),
                 [](const SymInt& symbol) { return symbol.as_int_unchecked(); });
  return all;
}

// The hyperparameters of one call, as the schemas carry them.
struct Symbols {
  SymIntArrayRef stride, padding, dilation;
  const SymInt& groups;

  bool are_numbers() const {
    const auto all_are = [](SymIntArrayRef symbols) {
      return std::none_of(symbols.begin(), symbols.end(),
                          [](const SymInt& symbol) { return symbol.is_heap_allocated(); });
    };
    return all_are(stride) && all_are(padding) && all_are(dilation) && !groups.is_heap_allocated();
  }

  Hyperparameters checked() const {  // by the operator, which has run
    return {numbers<2>(stride), numbers<4>(padding), numbers<2>(dilation),
            groups.as_int_unchecked()};
  }
};

enum class Way { kLoops, kNode, kRules };

// The way of a call with these tensors. Switching gradients off (no_grad) switches off the reverse mode alone.
Way way_of(DispatchKeySet keys, const Symbols& symbols, std::initializer_list<const Tensor*> all) {
  const auto any = [&](const auto& holds) {
    return std::any_of(all.begin(), all.end(), [&](const Tensor* t) { return t && holds(*t); });
  };
  if (any([](const Tensor& t) { return t._fw_grad(/*level=*/0).defined(); })) return Way::kRules;
  if (!at::GradMode::is_enabled() || !any([](const Tensor& t) { return t.requires_grad(); }))
    return Way::kLoops;
  const bool is_traced = reaches_python(keys) || !symbols.are_numbers() || any(has_symbols);
  return only_python_records || is_traced ? Way::kRules : Way::kNode;
}

// The rule is registered for the alias key Autograd, which stands for every autograd key that has no
// kernel of its own. AutogradOther is one of them, whatever the device.
template <typename Operator, typename... Arguments>
Tensor run(Way way, const Operator& op, DispatchKeySet keys, Arguments&&... arguments) {
  const DispatchKeySet below = keys & c10::after_autograd_keyset;
  if (way == Way::kRules)
    return op.redispatch(below.add(DispatchKey::AutogradOther),
                         std::forward<Arguments>(arguments)...);
  // The guard lets what the loops call of ATen pass autograd by as well.
  const at::AutoDispatchBelowADInplaceOrView guard;
  return op.redispatch(below, std::forward<Arguments>(arguments)...);
}

Tensor conv2d(DispatchKeySet keys, const Tensor& input, const Tensor& weight,
              const std::optional<Tensor>& bias, SymIntArrayRef stride, SymIntArrayRef padding,
              SymIntArrayRef dilation, SymInt groups) {
  const Symbols symbols{stride, padding, dilation, groups};
  const Way way = way_of(keys, symbols, {&input, &weight, bias ? &*bias : nullptr});
  Tensor output =
      run(way, conv2d_operator(), keys, input, weight, bias, stride, padding, dilation, groups);
  if (way == Way::kNode) record(output, {kOutput, input, weight, symbols.checked()}, bias);
  return output;
}

Tensor conv2d_input(DispatchKeySet keys, SymIntArrayRef input_size, const Tensor& weight,
                    const Tensor& grad_output, SymIntArrayRef stride, SymIntArrayRef padding,
                    SymIntArrayRef dilation, SymInt groups, OptionalSymIntArrayRef grad_strides) {
  const Symbols symbols{stride, padding, dilation, groups};
  const Way way = way_of(keys, symbols, {&weight, &grad_output});
  Tensor grad_input = run(way, conv2d_input_operator(), keys, input_size, weight, grad_output,
                          stride, padding, dilation, groups, grad_strides);
  if (way == Way::kNode) record(grad_input, {kInput, weight, grad_output, symbols.checked()});
  return grad_input;
}

Tensor conv2d_weight(DispatchKeySet keys, const Tensor& input, SymIntArrayRef weight_size,
                     const Tensor& grad_output, SymIntArrayRef stride, SymIntArrayRef padding,
                     SymIntArrayRef dilation, SymInt groups, OptionalSymIntArrayRef grad_strides) {
  const Symbols symbols{stride, padding, dilation, groups};
  const Way way = way_of(keys, symbols, {&input, &grad_output});
  Tensor grad_weight = run(way, conv2d_weight_operator(), keys, input, weight_size, grad_output,
                           stride, padding, dilation, groups, grad_strides);
  if (way == Way::kNode) record(grad_weight, {kWeight, input, grad_output, symbols.checked()});
  return grad_weight;
}

}  // namespace

bool record_in_python(bool wanted) { return std::exchange(only_python_records, wanted); }

TORCH_LIBRARY_IMPL(convgrad_ext, AutogradCPU, m) {
  m.impl("conv2d", conv2d);
  m.impl("conv2d_input", conv2d_input);
  m.impl("conv2d_weight", conv2d_weight);
}

}  // namespace convgrad
