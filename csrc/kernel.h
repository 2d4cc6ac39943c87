// A kernel is one implementation of the three passes for one type of device.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "conv_shape.h"
#include "plan_report.h"

namespace convgrad {

// The passes fill their last argument, which has been checked and allocated, and is not empty (ops.cpp).
struct Kernel {
  std::string name;
  std::string isa;  // the instruction set that it needs; "any" for portable code
  c10::DeviceType device;
  std::vector<at::ScalarType> dtypes;
  bool available;  // on this machine, and not ruled out by CONVGRAD_ISA

  std::function<void(const ConvShape&, const at::Tensor& input, const at::Tensor& weight,
                     const std::optional<at::Tensor>& bias, at::Tensor& output)>
      forward;
  std::function<void(const ConvShape&, const at::Tensor& weight, const at::Tensor& grad_output,
                     at::Tensor& grad_input)>
      grad_input;
  std::function<void(const ConvShape&, const at::Tensor& input, const at::Tensor& grad_output,
                     at::Tensor& grad_weight)>
      grad_weight;

  // The plan of a pass whose operands have the sizes, strides and dtype of these tensors; no element is read.
  std::function<std::vector<PlanReport>(Pass, const ConvShape&, const at::Tensor& input,
                                        const at::Tensor& weight, const at::Tensor& output)>
      plan;

  std::vector<std::string> passes() const;
};

}  // namespace convgrad
