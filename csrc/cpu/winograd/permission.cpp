#include "cpu/winograd/permission.h"

#include <c10/util/Exception.h>

#include <atomic>
#include <cstdlib>
#include <string>

namespace convgrad::cpu {
namespace {

bool allowed_by_environment() {
  const char* variable = std::getenv("CONVGRAD_WINOGRAD");
  const std::string value = variable ? variable : "";
  TORCH_CHECK_VALUE(value.empty() || value == "0" || value == "1",
                    "CONVGRAD_WINOGRAD must be 0 or 1, but got '", value, "'");
  return value == "1";
}

std::atomic<bool>& permission() {
  static std::atomic<bool> allowed{allowed_by_environment()};
  return allowed;
}

}  // namespace

bool winograd_is_allowed() { return permission().load(std::memory_order_relaxed); }

bool allow_winograd(bool allowed) { return permission().exchange(allowed); }

}  // namespace convgrad::cpu
