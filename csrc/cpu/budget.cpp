#include "cpu/budget.h"

#include <c10/util/Exception.h>
#include <unistd.h>

#include <cstdlib>
#include <mutex>
#include <string>

namespace convgrad::cpu {
namespace {

constexpr int64_t kLeast = 8 << 10, kMost = int64_t{1} << 30;

// A number with K or M behind it; nullopt for anything else.
std::optional<int64_t> size_in(const std::string& text) {
  char* end = nullptr;
  const int64_t number = std::strtoll(text.c_str(), &end, 10);
  const std::string unit(end);
  if (end == text.c_str() || number <= 0 || number > kMost || (unit != "K" && unit != "M"))
    return std::nullopt;
  const int64_t bytes = number << (unit == "K" ? 10 : 20);
  return kLeast <= bytes && bytes <= kMost ? std::optional(bytes) : std::nullopt;
}

std::optional<Budget> sizes_in(const std::string& text) {
  const size_t comma = text.find(',');
  if (comma == std::string::npos) return std::nullopt;
  const auto l1d = size_in(text.substr(0, comma)), l2 = size_in(text.substr(comma + 1));
  return l1d && l2 ? std::optional(Budget{*l1d, *l2}) : std::nullopt;
}

Budget of_processor() {
  Budget sizes;
#if defined(_SC_LEVEL1_DCACHE_SIZE) && defined(_SC_LEVEL2_CACHE_SIZE)
  const int64_t l1d = sysconf(_SC_LEVEL1_DCACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (l1d >= kLeast) sizes.l1d = l1d;
  if (l2 >= kLeast) sizes.l2 = l2;
#endif
  return sizes;
}

Budget from_environment() {
  const char* variable = std::getenv("CONVGRAD_CACHE");
  if (!variable || !*variable) return of_processor();
  const std::optional<Budget> sizes = sizes_in(variable);
  TORCH_CHECK_VALUE(sizes,
                    "CONVGRAD_CACHE must be the sizes of L1d and L2 from 8K to 1024M, as in "
                    "'48K,2M', but got '",
                    variable, "'");
  return *sizes;
}

std::mutex mutex;

Budget& current() {
  static Budget sizes = from_environment();
  return sizes;
}

}  // namespace

Budget budget() {
  const std::lock_guard lock(mutex);
  return current();
}

Budget set_budget(std::optional<Budget> sizes) {
  const std::lock_guard lock(mutex);
  const Budget before = current();
  current() = sizes ? *sizes : from_environment();
  return before;
}

}  // namespace convgrad::cpu
