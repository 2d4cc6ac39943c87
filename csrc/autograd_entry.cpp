// Where a call with CPU tensors meets autograd. The rules that differentiate are Python,
// convgrad_ext/autograd.py, and cost several times what a small convolution does: they are entered
// only if there is something to record.
#include <ATen/ATen.h>
#include <ATen/core/stack.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>

namespace convgrad {
namespace {

// Within torch.func the rule does more than to record: see outer_levels_on there. The key stands
// for the stack of transforms, whose own header needs others that PyTorch does not install.
bool is_transformed() {
  return c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode);
}

// Switching gradients off (no_grad) switches off the reverse mode alone.
bool is_differentiated(const c10::IValue& argument) {
  if (!argument.isTensor()) return false;
  const at::Tensor& tensor = argument.toTensor();
  return (at::GradMode::is_enabled() && tensor.requires_grad()) ||
         tensor._fw_grad(/*level=*/0).defined();
}

// Boxed: it suits every schema, and calls from Python arrive in this form.
void autograd_entry(const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                    torch::jit::Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const c10::DispatchKeySet below = keys & c10::after_autograd_keyset;
  if (is_transformed() || std::any_of(arguments.begin(), arguments.end(), is_differentiated)) {
    // The rule is registered for the alias key Autograd, which stands for every autograd key that
    // has no kernel of its own. AutogradOther is one of them, whatever the device.
    op.redispatchBoxed(below.add(c10::DispatchKey::AutogradOther), stack);
    return;
  }
  // The guard lets what the loops call of ATen pass autograd by as well.
  const at::AutoDispatchBelowADInplaceOrView guard;
  op.redispatchBoxed(below, stack);
}

}  // namespace

TORCH_LIBRARY_IMPL(convgrad_ext, AutogradCPU, m) {
  for (const char* name : {"conv2d", "conv2d_input", "conv2d_weight"})
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&autograd_entry>());
}

}  // namespace convgrad
