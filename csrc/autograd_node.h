// Reverse mode: a call of an operator, recorded by a node whose backward calls the operators.
//
// The three passes are the partial derivatives of one trilinear form in input, weight and output. Each makes
// one of the three from the other two, its factors. The derivative in a factor is the pass that makes that
// factor, from the gradient of the result and the other factor. So one class serves the three passes, and any
// order: its backward calls operators that are recorded again.
#pragma once

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <array>
#include <optional>
#include <string>

namespace convgrad {

// A gradient has the name of its tensor: grad_output is the output.
enum Operand { kInput, kWeight, kOutput };

// The hyperparameters of a call that has passed the checks; padding is (top, bottom, left, right).
struct Hyperparameters {
  std::array<int64_t, 2> stride;
  std::array<int64_t, 4> padding;
  std::array<int64_t, 2> dilation;
  int64_t groups;
};

// A pass, by the operand that it makes, with its factors in the order of `Operand`.
struct RecordedPass {
  Operand result;
  const at::Tensor& first;
  const at::Tensor& second;
  Hyperparameters params;
};

// Makes `result` the result of `pass`, and of the bias where the pass is conv2d and has one.
void record(const at::Tensor& result, const RecordedPass& pass,
            const std::optional<at::Tensor>& bias = std::nullopt);

}  // namespace convgrad
