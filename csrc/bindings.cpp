// The module _C: the geometry, the reference's second opinions and the kernel registry, for tests,
// documentation and tools. The operators themselves live in torch.ops.convgrad_ext.
#include <torch/extension.h>

#include "conv_checks.h"
#include "cpu/kernel.h"
#include "cpu/probe.h"
#include "cpu/winograd_choice.h"
#include "reference/reference.h"

namespace py = pybind11;

namespace convgrad {
namespace {

using at::Tensor;
using Ints = std::vector<int64_t>;

std::pair<int64_t, int64_t> as_pair(const Range& range) { return {range.lo, range.hi}; }

void check_index(const char* name, int64_t index, int64_t extent) {
  TORCH_CHECK_VALUE(0 <= index && index < extent, name, " must be in [0, ", extent, "), but got ",
                    index);
}

std::vector<std::pair<int64_t, int64_t>> meetings_of_input(const Axis& axis, int64_t i) {
  check_index("i", i, axis.I);
  std::vector<std::pair<int64_t, int64_t>> pairs;
  const auto meetings = axis.meetings_of_inputs();
  for (const Meeting& m : meetings.at(i)) pairs.emplace_back(m.k, m.o);
  return pairs;
}

Axis checked_axis(int64_t I, int64_t K, int64_t stride, std::pair<int64_t, int64_t> padding,
                  int64_t dilation) {
  const auto [lo, hi] = padding;
  TORCH_CHECK_VALUE(I >= 0 && K >= 1 && stride >= 1 && lo >= 0 && hi >= 0 && dilation >= 1,
                    "Axis: input_extent and padding must be >= 0, kernel_size, stride and dilation "
                    ">= 1, but got input_extent=",
                    I, ", kernel_size=", K, ", stride=", stride, ", padding=(", lo, ", ", hi,
                    "), dilation=", dilation);
  TORCH_CHECK_VALUE(lo <= kLargestExtent && hi <= kLargestExtent && I <= kLargestNumber - (lo + hi),
                    "Axis: input_extent and padding must add up to at most ", kLargestNumber,
                    ", but got input_extent=", I, ", padding=(", lo, ", ", hi, ")");
  TORCH_CHECK_VALUE(K == 1 || dilation <= kLargestExtent / K, "Axis: dilation must be at most ",
                    kLargestExtent / K, " for kernel_size=", K, ", but got ", dilation);
  TORCH_CHECK_VALUE(kernel_span(K, dilation) <= padded_extent(I, lo, hi), "Axis: the kernel spans ",
                    kernel_span(K, dilation), " pixels and the padded input has ",
                    padded_extent(I, lo, hi));
  return Axis(I, K, stride, lo, hi, dilation);
}

std::optional<PatchAxis> checked_patches(const Walk& walk) {
  return PatchAxis::fits(walk) ? std::optional(PatchAxis(walk)) : std::nullopt;
}

Tensor scatter_grad_input(const Ints& input_size, const Tensor& weight, const Tensor& grad_output,
                          const Ints& stride, const Ints& padding, const Ints& dilation,
                          int64_t groups) {
  const ConvParams<int64_t> params{stride, padding, dilation, groups};
  Tensor grad_input = empty_grad_input<int64_t>(input_size, weight, grad_output, params);
  reference::scatter_grad_input(make_conv_shape(input_size, weight.sizes(), params), weight,
                                grad_output, grad_input);
  return grad_input;
}

Tensor scatter_grad_weight(const Tensor& input, const Ints& weight_size, const Tensor& grad_output,
                           const Ints& stride, const Ints& padding, const Ints& dilation,
                           int64_t groups) {
  const ConvParams<int64_t> params{stride, padding, dilation, groups};
  Tensor grad_weight = empty_grad_weight<int64_t>(input, weight_size, grad_output, params);
  reference::scatter_grad_weight(make_conv_shape(input.sizes(), weight_size, params), input,
                                 grad_output, grad_weight);
  return grad_weight;
}

Tensor grad_bias(const Tensor& grad_output) {
  TORCH_CHECK_VALUE(grad_output.dim() == 4,
                    "grad_bias: grad_output must have the size (N, C_out, "
                    "H_out, W_out), but got ",
                    grad_output.sizes());
  Tensor grad_bias = at::empty({grad_output.size(1)}, grad_output.options());
  reference::grad_bias(grad_output, grad_bias);
  return grad_bias;
}

py::dict describe(const cpu::Kernel& kernel) {
  py::list dtypes;
  for (at::ScalarType dtype : kernel.dtypes)
    dtypes.append(
        py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(torch::getTHPDtype(dtype))));
  using namespace py::literals;
  return py::dict("name"_a = kernel.name, "isa"_a = kernel.isa, "dtypes"_a = py::tuple(dtypes),
                  "passes"_a = py::tuple(py::cast(kernel.passes())),
                  "available"_a = kernel.available);
}

py::list describe_kernels() {
  py::list all;
  for (const cpu::Kernel& kernel : cpu::kernels()) all.append(describe(kernel));
  return all;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Geometry, second references and kernel registry of convgrad_ext.";

  py::class_<PatchAxis>(m, "PatchAxis")
      .def("__len__", &PatchAxis::size)
      .def("left_in_phase", &PatchAxis::left_in_phase, py::arg("p"))
      .def(
          "pixel",
          [](const PatchAxis& axis, int64_t p, int64_t i) {
            return axis.walk.pixel(axis.destination(p, i));
          },
          py::arg("p"), py::arg("i"))
      .def("source", &PatchAxis::source, py::arg("p"), py::arg("j"))
      .def(
          "sources_inside",
          [](const PatchAxis& axis, int64_t p, int64_t patches) {
            return as_pair(axis.sources_inside(p, patches));
          },
          py::arg("p"), py::arg("patches"))
      .def("pixels_inside", &PatchAxis::pixels_inside, py::arg("p"), py::arg("patches"))
      .def_property_readonly("pixel_step", &PatchAxis::pixel_step)
      .def_property_readonly("taps_are_reversed",
                             [](const PatchAxis& axis) { return axis.nearest_tap() > 0; });

  py::class_<Axis>(m, "Axis")
      .def(py::init(&checked_axis), py::arg("input_extent"), py::arg("kernel_size"),
           py::arg("stride") = 1, py::arg("padding") = std::pair<int64_t, int64_t>{0, 0},
           py::arg("dilation") = 1)
      .def_readonly("output_extent", &Axis::O)
      .def(
          "outputs_of_tap",
          [](const Axis& axis, int64_t k) {
            check_index("k", k, axis.K);
            return as_pair(axis.outputs_of_tap(k));
          },
          py::arg("k"))
      .def(
          "taps_of_output",
          [](const Axis& axis, int64_t o) {
            check_index("o", o, axis.O);
            return as_pair(axis.taps_of_output(o));
          },
          py::arg("o"))
      .def("meetings_of_input", &meetings_of_input, py::arg("i"))
      .def("patches_of_outputs", [](const Axis& axis) { return checked_patches(axis.outputs()); })
      .def(
          "patches_of_phase",
          [](const Axis& axis, int64_t first) {
            check_index("first", first, axis.phases());
            return checked_patches(axis.inputs_of_phase(first));
          },
          py::arg("first"));

  m.def("scatter_grad_input", &scatter_grad_input, py::arg("input_size"), py::arg("weight"),
        py::arg("grad_output"), py::arg("stride"), py::arg("padding"), py::arg("dilation"),
        py::arg("groups"));
  m.def("scatter_grad_weight", &scatter_grad_weight, py::arg("input"), py::arg("weight_size"),
        py::arg("grad_output"), py::arg("stride"), py::arg("padding"), py::arg("dilation"),
        py::arg("groups"));
  m.def("grad_bias", &grad_bias, py::arg("grad_output"));

  m.def(
      "fma_peak_gflops",
      [](const py::object& dtype, int64_t threads) {
        return cpu::fma_peak_gflops(torch::python::detail::py_object_to_dtype(dtype), threads);
      },
      py::arg("dtype"), py::arg("threads") = 1);
  m.def("bandwidth_gbs", &cpu::bandwidth_gbs, py::arg("threads") = 1);
  m.attr("compiler") = __VERSION__;

  m.def("kernels", &describe_kernels);
  m.def("select_kernel", &cpu::select_kernel, py::arg("name"));
  m.def("winograd_allowed", &cpu::winograd_is_allowed);
  m.def("allow_winograd", &cpu::allow_winograd, py::arg("allowed"));
}

}  // namespace convgrad
