#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "cpu/gather.h"
#include "cpu/grad_weight.h"
#include "cpu/kernel.h"
#include "cpu/kernels/isa.h"
#include "reference/reference.h"

namespace convgrad::cpu {
namespace {

thread_local const Kernel* selected = nullptr;

// The passes of one instruction set, for the dtypes that have tiles.
template <const Tiles<float>& (*floats)(), const Tiles<double>& (*doubles)()>
Kernel fast_kernel(const char* name, const char* isa, bool available) {
  Kernel kernel{name, isa, {at::kFloat, at::kDouble}, available, nullptr, nullptr, nullptr};
  kernel.forward = [](const ConvShape& shape, const at::Tensor& input, const at::Tensor& weight,
                      const std::optional<at::Tensor>& bias, at::Tensor& output) {
    if (input.scalar_type() == at::kFloat)
      return forward(floats(), shape, input, weight, bias, output);
    forward(doubles(), shape, input, weight, bias, output);
  };
  kernel.grad_input = [](const ConvShape& shape, const at::Tensor& weight,
                         const at::Tensor& grad_output, at::Tensor& result) {
    if (weight.scalar_type() == at::kFloat)
      return grad_input(floats(), shape, weight, grad_output, result);
    grad_input(doubles(), shape, weight, grad_output, result);
  };
  kernel.grad_weight = [](const ConvShape& shape, const at::Tensor& input,
                          const at::Tensor& grad_output, at::Tensor& result) {
    if (input.scalar_type() == at::kFloat)
      return grad_weight(floats(), shape, input, grad_output, result);
    grad_weight(doubles(), shape, input, grad_output, result);
  };
  return kernel;
}

std::string available_names(const std::vector<Kernel>& kernels) {
  std::string names;
  for (const Kernel& kernel : kernels)
    if (kernel.available) names += (names.empty() ? "'" : ", '") + kernel.name + "'";
  return names;
}

// CONVGRAD_ISA names the fastest kernel that may run: those before it count as not available.
void limit_by_environment(std::vector<Kernel>& fast) {
  const char* isa = std::getenv("CONVGRAD_ISA");
  if (!isa || !*isa) return;
  const auto chosen = std::find_if(fast.begin(), fast.end(), [&](const Kernel& kernel) {
    return kernel.available && kernel.name == isa;
  });
  TORCH_CHECK_VALUE(chosen != fast.end(), "CONVGRAD_ISA must be one of ", available_names(fast),
                    " on this processor, but got '", isa, "'");
  std::for_each(fast.begin(), chosen, [](Kernel& kernel) { kernel.available = false; });
}

std::vector<Kernel> build_kernels() {
  const std::vector<at::ScalarType> every_dtype = {
      at::kHalf, at::kBFloat16, at::kFloat, at::kDouble, at::kComplexFloat, at::kComplexDouble,
      at::kByte, at::kChar,     at::kShort, at::kInt,    at::kLong};
  std::vector<Kernel> all;
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f");
  all.push_back(
      fast_kernel<avx512_tiles<float>, avx512_tiles<double>>("avx512", "AVX-512", avx512));
  all.push_back(fast_kernel<avx2_tiles<float>, avx2_tiles<double>>("avx2", "AVX2+FMA", avx2));
#endif
  all.push_back(
      fast_kernel<baseline_tiles<float>, baseline_tiles<double>>("baseline", "any", true));
  limit_by_environment(all);
  all.push_back({"reference", "any", every_dtype, true, reference::forward, reference::grad_input,
                 reference::grad_weight});
  return all;
}

bool serves(const Kernel& kernel, at::ScalarType dtype) {
  return kernel.available && std::count(kernel.dtypes.begin(), kernel.dtypes.end(), dtype) > 0;
}

}  // namespace

std::vector<std::string> Kernel::passes() const {
  std::vector<std::string> names;
  if (forward) names.push_back("forward");
  if (grad_input) names.push_back("grad_input");
  if (grad_weight) names.push_back("grad_weight");
  return names;
}

const std::vector<Kernel>& kernels() {
  static const std::vector<Kernel> all = build_kernels();
  return all;
}

const Kernel& kernel_for(at::ScalarType dtype) {
  if (selected && serves(*selected, dtype)) return *selected;
  for (const Kernel& kernel : kernels())
    if (serves(kernel, dtype)) return kernel;
  TORCH_CHECK_NOT_IMPLEMENTED(false, "convgrad_ext: convolution is not implemented for '", dtype,
                              "'");
}

std::optional<std::string> select_kernel(std::optional<std::string> name) {
  const Kernel* found = nullptr;
  if (name) {
    for (const Kernel& kernel : kernels())
      if (kernel.available && kernel.name == *name) found = &kernel;
    TORCH_CHECK_VALUE(found, "use_kernel: name must be one of ", available_names(kernels()),
                      ", but got '", *name, "'");
  }
  const Kernel* previous = std::exchange(selected, found);
  return previous ? std::optional(previous->name) : std::nullopt;
}

}  // namespace convgrad::cpu
