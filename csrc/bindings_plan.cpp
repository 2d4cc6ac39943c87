// Plans, cache sizes and costs in Python: convgrad_ext/plans.py, benchmarks/calibrate.py and the tests.
#include "bindings.h"
#include "conv_checks.h"
#include "cpu/budget.h"
#include "cpu/costs.h"
#include "registry.h"

namespace py = pybind11;

namespace convgrad {
namespace {

using at::Tensor;
using Ints = std::vector<int64_t>;

Pass pass_named(const std::string& name) {
  for (Pass pass : {Pass::kForward, Pass::kGradInput, Pass::kGradWeight})
    if (name == name_of(pass)) return pass;
  TORCH_CHECK_VALUE(false,
                    "plan: pass_name must be 'forward', 'grad_input' or 'grad_weight', but got '",
                    name, "'");
}

py::dict as_dict(const PlanReport& report) {
  using pybind11::literals::operator""_a;
  py::dict blocking;
  for (const auto& [name, value] : report.blocking) blocking[py::str(name)] = value;
  return py::dict("path"_a = report.path, "reason"_a = report.reason, "phases"_a = report.phases,
                  "blocking"_a = blocking, "packed_bytes"_a = report.packed_bytes,
                  "scratch_bytes"_a = report.scratch_bytes, "padded_share"_a = report.padded_share);
}

// The tensor without its data.
Tensor meta_of(const Tensor& t) {
  return at::empty_strided(t.sizes(), t.strides(), t.options().device(at::kMeta));
}

py::list plan(const std::string& pass_name, const Tensor& input, const Tensor& weight,
              const Ints& stride, const Ints& padding, const Ints& dilation, int64_t groups) {
  const Pass pass = pass_named(pass_name);
  const ConvParams<int64_t> params{stride, padding, dilation, groups};
  const Kernel& kernel = kernel_for(input.device().type(), input.scalar_type());
  const Tensor image = meta_of(input), filters = meta_of(weight);
  // The operands themselves are checked, because messages name their types.
  const Tensor output = meta_of(empty_output(input, weight, std::nullopt, params));
  py::list reports;
  if (output.numel() == 0 || image.numel() == 0 || filters.numel() == 0) return reports;
  const ConvShape shape = make_conv_shape(input.sizes(), weight.sizes(), params);
  for (const PlanReport& report : kernel.plan(pass, shape, image, filters, output))
    reports.append(as_dict(report));
  return reports;
}

std::pair<int64_t, int64_t> as_pair(const cpu::Budget& sizes) { return {sizes.l1d, sizes.l2}; }

py::dict as_dict(const cpu::Costs& costs) {
  using pybind11::literals::operator""_a;
  return py::dict("products"_a = costs.products, "pair"_a = costs.pair, "tiles"_a = costs.tiles,
                  "outputs"_a = costs.outputs, "row"_a = costs.row,
                  "row_vector"_a = costs.row_vector, "row_apart"_a = costs.row_apart,
                  "grads"_a = costs.grads, "grads_apart"_a = costs.grads_apart,
                  "direct_pair"_a = costs.direct_pair, "direct_pixels"_a = costs.direct_pixels);
}

void set_costs(const std::string& isa, const std::map<std::string, double>& costs) {
  cpu::Costs row = cpu::costs_of(isa);
  const std::map<std::string, double*> fields = {{"products", &row.products},
                                                 {"pair", &row.pair},
                                                 {"tiles", &row.tiles},
                                                 {"outputs", &row.outputs},
                                                 {"row", &row.row},
                                                 {"row_vector", &row.row_vector},
                                                 {"row_apart", &row.row_apart},
                                                 {"grads", &row.grads},
                                                 {"grads_apart", &row.grads_apart},
                                                 {"direct_pair", &row.direct_pair},
                                                 {"direct_pixels", &row.direct_pixels}};
  for (const auto& [name, cost] : costs) {
    const auto field = fields.find(name);
    TORCH_CHECK_VALUE(field != fields.end(), "set_costs: there is no cost '", name, "'");
    *field->second = cost;
  }
  cpu::set_costs(row);
}

}  // namespace

void bind_plan(py::module_& m) {
  m.def("plan", &plan, py::arg("pass_name"), py::arg("input"), py::arg("weight"), py::arg("stride"),
        py::arg("padding"), py::arg("dilation"), py::arg("groups"));
  m.def("cache_sizes", [] { return as_pair(cpu::budget()); });
  m.def(
      "set_cache_sizes",
      [](std::optional<std::pair<int64_t, int64_t>> sizes) {
        if (!sizes) return as_pair(cpu::set_budget(std::nullopt));
        return as_pair(cpu::set_budget(cpu::Budget{sizes->first, sizes->second}));
      },
      py::arg("sizes"));
  m.def(
      "costs", [](const std::string& isa) { return as_dict(cpu::costs_of(isa)); }, py::arg("isa"));
  m.def("set_costs", &set_costs, py::arg("isa"), py::arg("costs"));
}

}  // namespace convgrad
