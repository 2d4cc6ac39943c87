// The module _C: the geometry, the reference's second opinions and the kernel registry, for tests,
// documentation and tools. The operators themselves live in torch.ops.convgrad_ext.
#include "bindings.h"

#include <ATen/autocast_mode.h>

#include "autograd_entry.h"
#include "conv_checks.h"
#include "cpu/probe.h"
#include "cpu/winograd/permission.h"
#include "plain_call.h"
#include "reference/reference.h"
#include "registry.h"

namespace py = pybind11;

namespace convgrad {
namespace {

using at::Tensor;
using Ints = std::vector<int64_t>;

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

// A leaf that requires gradients is converted once in an autocast region: PyTorch keeps the result.
Tensor autocast(const Tensor& tensor, at::ScalarType dtype) {
  return at::autocast::cached_cast(dtype, tensor, tensor.device().type());
}

py::dict describe(const Kernel& kernel) {
  py::list dtypes;
  for (at::ScalarType dtype : kernel.dtypes)
    dtypes.append(
        py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(torch::getTHPDtype(dtype))));
  using pybind11::literals::operator""_a;
  return py::dict("name"_a = kernel.name, "isa"_a = kernel.isa,
                  "device"_a = c10::DeviceTypeName(kernel.device, true),
                  "dtypes"_a = py::tuple(dtypes), "passes"_a = py::tuple(py::cast(kernel.passes())),
                  "available"_a = kernel.available);
}

py::list describe_kernels() {
  py::list all;
  for (const Kernel& kernel : kernels()) all.append(describe(kernel));
  return all;
}

void bind_passes(py::module_& m) {
  m.def("scatter_grad_input", &scatter_grad_input, py::arg("input_size"), py::arg("weight"),
        py::arg("grad_output"), py::arg("stride"), py::arg("padding"), py::arg("dilation"),
        py::arg("groups"));
  m.def("scatter_grad_weight", &scatter_grad_weight, py::arg("input"), py::arg("weight_size"),
        py::arg("grad_output"), py::arg("stride"), py::arg("padding"), py::arg("dilation"),
        py::arg("groups"));
  m.def("grad_bias", &grad_bias, py::arg("grad_output"));
  m.def("autocast", &autocast, py::arg("tensor"), py::arg("dtype"));
}

void bind_probe(py::module_& m) {
  m.def(
      "fma_peak_gflops",
      [](const py::object& dtype, int64_t threads) {
        return cpu::fma_peak_gflops(torch::python::detail::py_object_to_dtype(dtype), threads);
      },
      py::arg("dtype"), py::arg("threads") = 1);
  m.def("bandwidth_gbs", &cpu::bandwidth_gbs, py::arg("threads") = 1);
  m.attr("compiler") = __VERSION__;
}

void bind_choices(py::module_& m) {
  m.def("kernels", &describe_kernels);
  m.def("select_kernel", &select_kernel, py::arg("name"));
  m.def("winograd_allowed", &cpu::winograd_is_allowed);
  m.def("allow_winograd", &cpu::allow_winograd, py::arg("allowed"));
}

// pybind11 would take longer to call it than a small convolution does.
void bind_calls(py::module_& m) {
  static PyMethodDef functions[] = {plain_conv2d_definition(), {nullptr, nullptr, 0, nullptr}};
  TORCH_CHECK(PyModule_AddFunctions(m.ptr(), functions) == 0, "_C: plain_conv2d was not added");
  m.def("record_in_python", &record_in_python, py::arg("wanted"));
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Geometry, second references and kernel registry of convgrad_ext.";

  bind_geometry(m);
  bind_plan(m);
  bind_results(m);
  bind_slides(m);
  bind_tiles(m);
  bind_passes(m);
  bind_probe(m);
  bind_choices(m);
  bind_calls(m);
}

}  // namespace convgrad
