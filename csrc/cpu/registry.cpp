#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

#include "cpu/kernel.h"
#include "reference/reference.h"

namespace convgrad::cpu {
namespace {

thread_local const Kernel* selected = nullptr;

std::vector<Kernel> build_kernels() {
  const std::vector<at::ScalarType> every_dtype = {
      at::kHalf, at::kBFloat16, at::kFloat, at::kDouble, at::kComplexFloat, at::kComplexDouble,
      at::kByte, at::kChar,     at::kShort, at::kInt,    at::kLong};
  return {{"reference", "any", every_dtype, true, reference::forward, reference::grad_input,
           reference::grad_weight}};
}

bool serves(const Kernel& kernel, at::ScalarType dtype) {
  return kernel.available && std::count(kernel.dtypes.begin(), kernel.dtypes.end(), dtype) > 0;
}

std::string available_names() {
  std::string names;
  for (const Kernel& kernel : kernels())
    if (kernel.available) names += (names.empty() ? "'" : ", '") + kernel.name + "'";
  return names;
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
    TORCH_CHECK_VALUE(found, "use_kernel: name must be one of ", available_names(), ", but got '",
                      *name, "'");
  }
  const Kernel* previous = std::exchange(selected, found);
  return previous ? std::optional(previous->name) : std::nullopt;
}

}  // namespace convgrad::cpu
