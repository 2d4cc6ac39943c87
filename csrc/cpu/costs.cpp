#include "cpu/costs.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <mutex>
#include <vector>

namespace convgrad::cpu {
namespace {

std::mutex mutex;

// The three rows are equal: they were measured on one processor with AVX-512. Nobody has fitted the other two with
// benchmarks/calibrate.py.
std::vector<Costs>& table() {
  static std::vector<Costs> costs = {
      {.isa = "avx512",
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
       .direct_pixels = 20},
      {.isa = "avx2",
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
       .direct_pixels = 20},
      {.isa = "baseline",
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
       .direct_pixels = 20},
  };
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
  const std::string_view isa = row.isa;  // of static storage
  row = costs;
  row.isa = isa;
}

}  // namespace convgrad::cpu
