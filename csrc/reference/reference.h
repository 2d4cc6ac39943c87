// The loops as the maths: every pass once, for every dtype and every processor.
//
// The gather forms own each element of their destination and write it once; they are the 'reference'
// kernel. The scatter forms walk the same meetings from the other side and add into their
// destination. They share no loop with the gather forms, which they check and explain.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "conv_shape.h"
#include "plan_report.h"

namespace convgrad::reference {

using OptionalTensor = std::optional<at::Tensor>;

void forward(const ConvShape& shape, const at::Tensor& input, const at::Tensor& weight,
             const OptionalTensor& bias, at::Tensor& output);
void grad_input(const ConvShape& shape, const at::Tensor& weight, const at::Tensor& grad_output,
                at::Tensor& grad_input);
void grad_weight(const ConvShape& shape, const at::Tensor& input, const at::Tensor& grad_output,
                 at::Tensor& grad_weight);
void grad_bias(const at::Tensor& grad_output, at::Tensor& grad_bias);

// One report for every pass: these loops have no blocks and need no scratch.
std::vector<PlanReport> plan(Pass pass, const ConvShape& shape, const at::Tensor& input,
                             const at::Tensor& weight, const at::Tensor& output);

void scatter_grad_input(const ConvShape& shape, const at::Tensor& weight,
                        const at::Tensor& grad_output, at::Tensor& grad_input);
void scatter_grad_weight(const ConvShape& shape, const at::Tensor& input,
                         const at::Tensor& grad_output, at::Tensor& grad_weight);

}  // namespace convgrad::reference
