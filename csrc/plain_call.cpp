#include "plain_call.h"

#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include <array>
#include <optional>

#include "operators.h"

namespace convgrad {
namespace {

// An int that is no bool nor of another subclass, and not negative: what fits into no int64_t is -1 here.
std::optional<int64_t> plain_int(PyObject* object) {
  if (!PyLong_CheckExact(object)) return std::nullopt;
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
  return value < 0 ? std::nullopt : std::optional<int64_t>(value);
}

using Pair = std::array<int64_t, 2>;
using Sides = std::array<int64_t, 4>;  // top, bottom, left, right

bool is_tuple_of_two(PyObject* object) {
  return PyTuple_CheckExact(object) && PyTuple_GET_SIZE(object) == 2;
}

std::optional<Pair> plain_pair(PyObject* object) {
  if (const auto both = plain_int(object)) return Pair{*both, *both};
  if (!is_tuple_of_two(object)) return std::nullopt;
  const auto vertical = plain_int(PyTuple_GET_ITEM(object, 0));
  const auto horizontal = plain_int(PyTuple_GET_ITEM(object, 1));
  if (!vertical || !horizontal) return std::nullopt;
  return Pair{*vertical, *horizontal};
}

// An int, (vertical, horizontal) or ((top, bottom), (left, right)).
std::optional<Sides> plain_sides(PyObject* object) {
  if (const auto pair = plain_pair(object))
    return Sides{(*pair)[0], (*pair)[0], (*pair)[1], (*pair)[1]};
  if (!is_tuple_of_two(object)) return std::nullopt;
  PyObject *vertical = PyTuple_GET_ITEM(object, 0), *horizontal = PyTuple_GET_ITEM(object, 1);
  if (!is_tuple_of_two(vertical) || !is_tuple_of_two(horizontal)) return std::nullopt;
  const auto v = plain_pair(vertical), h = plain_pair(horizontal);
  if (!v || !h) return std::nullopt;
  return Sides{(*v)[0], (*v)[1], (*h)[0], (*h)[1]};
}

// A Tensor or a Parameter, of no other subclass, with the rank that the operators take. A nested tensor
// has no sizes.
const Tensor* plain_tensor(PyObject* object) {
  if (!THPVariable_CheckExact(object)) return nullptr;
  const Tensor& tensor = THPVariable_Unpack(object);
  return !tensor.is_nested() && tensor.dim() == 4 ? &tensor : nullptr;
}

// None is a plain bias, and so is a tensor of any rank: the operator looks at it.
bool is_plain_bias(PyObject* object) {
  return object == Py_None ||
         (THPVariable_CheckExact(object) && !THPVariable_Unpack(object).is_nested());
}

// Modes that see Python calls, and those in which functional.py does more.
bool is_watched(const Tensor& input) {
  const auto device = input.device().type();
  const bool may_cast = device != at::kMeta && at::autocast::is_autocast_available(device);
  return at::impl::torch_function_mode_enabled() || torch::jit::tracer::isTracing() ||
         (may_cast && at::autocast::is_autocast_enabled(device));
}

constexpr Py_ssize_t kArguments = 7;

// The output; undefined where the call is not a common one.
Tensor plain_call(PyObject* const* arguments) {
  const Tensor *input = plain_tensor(arguments[0]), *weight = plain_tensor(arguments[1]);
  if (!input || !weight || !is_plain_bias(arguments[2]) || is_watched(*input)) return {};
  const auto stride = plain_pair(arguments[3]), dilation = plain_pair(arguments[5]);
  const auto padding = plain_sides(arguments[4]);
  const auto groups = plain_int(arguments[6]);
  if (!stride || !padding || !dilation || !groups) return {};
  std::optional<Tensor> bias;
  if (arguments[2] != Py_None) bias = THPVariable_Unpack(arguments[2]);
  const pybind11::gil_scoped_release released;
  return conv2d_operator().call(*input, *weight, bias, c10::fromIntArrayRefSlow(*stride),
                                c10::fromIntArrayRefSlow(*padding),
                                c10::fromIntArrayRefSlow(*dilation), *groups);
}

PyObject* plain_conv2d(PyObject* /*module*/, PyObject* const* arguments, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  TORCH_CHECK_TYPE(count == kArguments, "plain_conv2d takes ", kArguments, " arguments, but got ",
                   count);
  Tensor output = plain_call(arguments);
  if (!output.defined()) Py_RETURN_NONE;
  return THPVariable_Wrap(std::move(output));
  END_HANDLE_TH_ERRORS
}

constexpr const char* kDocumentation =
    "plain_conv2d(input, weight, bias, stride, padding, dilation, groups, /)\n\n"
    "conv2d of plain tensors, ints and tuples of ints; None, and nothing done, for any other call.";

}  // namespace

PyMethodDef plain_conv2d_definition() {
  // By way of the type that GCC exempts from its warning about casts of functions.
  const auto any_function = reinterpret_cast<void (*)()>(plain_conv2d);
  return {"plain_conv2d", reinterpret_cast<PyCFunction>(any_function), METH_FASTCALL,
          kDocumentation};
}

}  // namespace convgrad
