#include "cpu/costs.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <mutex>
#include <vector>

namespace convgrad::cpu {
namespace {

std::mutex mutex;

// Measured on one processor with AVX-512, and used for every instruction set until benchmarks/calibrate.py gives
// it a row of its own.
constexpr Costs kMeasured{.isa = "avx512",
                          .products = 19,
                          .pair = 24,
                          .tiles = 320,
                          .outputs = 80,
                          .row = 60,
                          .row_vector = 100,
                          .row_apart = 8,
                          .grads = 110,
                          .grads_apart = 250,
                          .direct_pair = 12,
                          .direct_pixels = 20};

constexpr Costs with_isa(Costs costs, std::string_view isa) {
  costs.isa = isa;
  return costs;
}

std::vector<Costs>& table() {
  static std::vector<Costs> costs = {kMeasured, with_isa(kMeasured, "avx2"),
                                     with_isa(kMeasured, "baseline")};
  return costs;
}

Costs& row_of(std::string_view isa) {
  const auto row = std::find_if(table().begin(), table().end(),
                                [&](const Costs& costs) { return costs.isa == isa; });
  TORCH_CHECK_VALUE(row != table().end(),
                    "costs: isa must be 'avx512', 'avx2' or 'baseline', but got '",
                    std::string(isa), "'");
  return *row;
}

}  // namespace

Costs costs_of(std::string_view isa) {
  const std::lock_guard lock(mutex);
  return row_of(isa);
}

void set_costs(const Costs& costs) {
  const std::lock_guard lock(mutex);
  Costs& row = row_of(costs.isa);
  row = with_isa(costs, row.isa);  // the table's name is of static storage
}

}  // namespace convgrad::cpu
