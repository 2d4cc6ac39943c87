// The cache sizes that plans count with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

namespace convgrad::cpu {

// Of one core, in bytes. The defaults hold where the system has no answer.
struct Budget {
  int64_t l1d = 32 << 10;
  int64_t l2 = 1 << 20;

  // The scratch of one thread, in bytes: it stays in L2, and is never more than a mebibyte.
  constexpr int64_t scratch() const { return std::min<int64_t>(l2, 1 << 20); }
  constexpr int64_t sixteenths(int64_t count) const { return count * scratch() / 16; }
};

// The sizes that CONVGRAD_CACHE names, as "48K,2M" for L1d and L2, or those of the processor. Raises a ValueError
// for anything else in CONVGRAD_CACHE.
Budget budget();

// From now on, for every thread; nullopt returns to the sizes above. Returns the sizes before.
Budget set_budget(std::optional<Budget> sizes);

}  // namespace convgrad::cpu
