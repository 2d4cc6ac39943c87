// The operators as C++ calls them: through the dispatcher, so that everything above the loops sees the call.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

namespace convgrad {

using at::OptionalSymIntArrayRef;
using at::Tensor;
using c10::SymInt;
using c10::SymIntArrayRef;

using Conv2d = Tensor(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                      SymIntArrayRef stride, SymIntArrayRef padding, SymIntArrayRef dilation,
                      SymInt groups);
using Conv2dInput = Tensor(SymIntArrayRef input_size, const Tensor& weight,
                           const Tensor& grad_output, SymIntArrayRef stride, SymIntArrayRef padding,
                           SymIntArrayRef dilation, SymInt groups,
                           OptionalSymIntArrayRef grad_strides);
using Conv2dWeight = Tensor(const Tensor& input, SymIntArrayRef weight_size,
                            const Tensor& grad_output, SymIntArrayRef stride,
                            SymIntArrayRef padding, SymIntArrayRef dilation, SymInt groups,
                            OptionalSymIntArrayRef grad_strides);

// Looked up once.
const c10::TypedOperatorHandle<Conv2d>& conv2d_operator();
const c10::TypedOperatorHandle<Conv2dInput>& conv2d_input_operator();
const c10::TypedOperatorHandle<Conv2dWeight>& conv2d_weight_operator();

}  // namespace convgrad
