#include "cpu/costs.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <mutex>
#include <vector>

namespace convgrad::cpu {
namespace {

std::mutex mutex;

// By benchmarks/calibrate.py, for float32 and float64 at once.
constexpr Costs kAvx512{.isa = "avx512",
                        .products = 22.1,
                        .pair = 41.2,
                        .tiles = 299,
                        .outputs = 169,
                        .row = 77.3,
                        .row_vector = 180,
                        .row_apart = 23.5,
                        .grads = 251,
                        .grads_apart = 319,
                        .direct_pair = 39.3,
                        .direct_pixels = 38.1};
constexpr Costs kAvx2{.isa = "avx2",
                      .products = 22.5,
                      .pair = 77.3,
                      .tiles = 615,
                      .outputs = 87.7,
                      .row = 63.9,
                      .row_vector = 178,
                      .row_apart = 20.1,
                      .grads = 167,
                      .grads_apart = 238,
                      .direct_pair = 50.9,
                      .direct_pixels = 36.9};
// By hand, before that script.
constexpr Costs kBaseline{.isa = "baseline",
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
  static std::vector<Costs> costs = {kAvx512, kAvx2, kBaseline};
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
