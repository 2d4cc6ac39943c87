#include "operators.h"

namespace convgrad {
namespace {

template <typename Signature>
c10::TypedOperatorHandle<Signature> found(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace

const c10::TypedOperatorHandle<Conv2d>& conv2d_operator() {
  static const auto op = found<Conv2d>("convgrad_ext::conv2d");
  return op;
}

const c10::TypedOperatorHandle<Conv2dInput>& conv2d_input_operator() {
  static const auto op = found<Conv2dInput>("convgrad_ext::conv2d_input");
  return op;
}

const c10::TypedOperatorHandle<Conv2dWeight>& conv2d_weight_operator() {
  static const auto op = found<Conv2dWeight>("convgrad_ext::conv2d_weight");
  return op;
}

}  // namespace convgrad
