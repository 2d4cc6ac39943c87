#include "registry.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

#include "cpu/kernels.h"

namespace convgrad {
namespace {

thread_local const Kernel* selected = nullptr;

bool serves(const Kernel& kernel, c10::DeviceType device, at::ScalarType dtype) {
  return kernel.available && kernel.device == device &&
         std::count(kernel.dtypes.begin(), kernel.dtypes.end(), dtype) > 0;
}

}  // namespace

std::vector<std::string> Kernel::passes() const {
  std::vector<std::string> names;
  if (forward) names.emplace_back("forward");
  if (grad_input) names.emplace_back("grad_input");
  if (grad_weight) names.emplace_back("grad_weight");
  return names;
}

const std::vector<Kernel>& kernels() {
  static const std::vector<Kernel> all = cpu::kernels();
  return all;
}

const Kernel& kernel_for(c10::DeviceType device, at::ScalarType dtype) {
  if (selected && serves(*selected, device, dtype)) return *selected;
  for (const Kernel& kernel : kernels())
    if (serves(kernel, device, dtype)) return kernel;
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

std::string available_names(const std::vector<Kernel>& kernels) {
  std::string names;
  for (const Kernel& kernel : kernels)
    if (kernel.available) names += (names.empty() ? "'" : ", '") + kernel.name + "'";
  return names;
}

}  // namespace convgrad
