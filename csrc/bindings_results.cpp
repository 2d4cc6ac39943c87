// The results of the operators in Python, for kernels that are written there: checked, allocated, not filled.
#include "bindings.h"
#include "conv_checks.h"

namespace py = pybind11;

namespace convgrad {
namespace {

using at::Tensor;
using Ints = std::vector<int64_t>;
using OptionalInts = std::optional<Ints>;

ConvParams<int64_t> params_of(const Ints& stride, const Ints& padding, const Ints& dilation,
                              int64_t groups) {
  return {stride, padding, dilation, groups};
}

c10::OptionalArrayRef<int64_t> as_array(const OptionalInts& numbers) {
  return numbers ? c10::OptionalArrayRef<int64_t>(*numbers) : std::nullopt;
}

Tensor output(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
              const Ints& stride, const Ints& padding, const Ints& dilation, int64_t groups) {
  return empty_output(input, weight, bias, params_of(stride, padding, dilation, groups));
}

Tensor grad_input(const Ints& input_size, const Tensor& weight, const Tensor& grad_output,
                  const Ints& stride, const Ints& padding, const Ints& dilation, int64_t groups,
                  const OptionalInts& grad_strides) {
  return empty_grad_input<int64_t>(input_size, weight, grad_output,
                                   params_of(stride, padding, dilation, groups),
                                   as_array(grad_strides));
}

Tensor grad_weight(const Tensor& input, const Ints& weight_size, const Tensor& grad_output,
                   const Ints& stride, const Ints& padding, const Ints& dilation, int64_t groups,
                   const OptionalInts& grad_strides) {
  return empty_grad_weight<int64_t>(input, weight_size, grad_output,
                                    params_of(stride, padding, dilation, groups),
                                    as_array(grad_strides));
}

}  // namespace

void bind_results(py::module_& m) {
  m.def("empty_output", &output, py::arg("input"), py::arg("weight"), py::arg("bias"),
        py::arg("stride"), py::arg("padding"), py::arg("dilation"), py::arg("groups"));
  m.def("empty_grad_input", &grad_input, py::arg("input_size"), py::arg("weight"),
        py::arg("grad_output"), py::arg("stride"), py::arg("padding"), py::arg("dilation"),
        py::arg("groups"), py::arg("grad_strides"));
  m.def("empty_grad_weight", &grad_weight, py::arg("input"), py::arg("weight_size"),
        py::arg("grad_output"), py::arg("stride"), py::arg("padding"), py::arg("dilation"),
        py::arg("groups"), py::arg("grad_strides"));
}

}  // namespace convgrad
