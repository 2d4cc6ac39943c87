// Passes of bfloat16 tensors on tiles that add two products at a time. The numbers of a reduction come in pairs, and
// a pair takes the place of one number of float32: it is copied as one, so that all loops are those of float32 with
// half as many steps.
//
//     forward       sums over input channels        pairs of c_in in the input and the weight
//     grad_input    sums over output channels       pairs of c_out in grad_output and the weight
//     grad_weight   sums over images and pixels     pairs of images in the input and grad_output
//
// A group of an odd number of channels, and an odd number of images, has a zero behind it. A single image is cut into two
// halves of its outputs' rows. Sums are of float32, and a result is rounded once.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "conv_shape.h"
#include "cpu/kernels/tiles.h"
#include "plan_report.h"

namespace convgrad::cpu {

// Whether the pass gains by pairs. Groups of few channels do not: float32 has tiles for them that pairs do not have.
bool gains_by_pairs(Pass pass, const ConvShape& shape);

void forward_in_pairs(const Tiles<at::BFloat16, float>& tiles, const ConvShape& shape,
                      const at::Tensor& input, const at::Tensor& weight,
                      const std::optional<at::Tensor>& bias, at::Tensor& output);

void grad_input_in_pairs(const Tiles<at::BFloat16, float>& tiles, const ConvShape& shape,
                         const at::Tensor& weight, const at::Tensor& grad_output,
                         at::Tensor& gradient);

void grad_weight_in_pairs(const Tiles<float, float>& tiles, const ConvShape& shape,
                          const at::Tensor& input, const at::Tensor& grad_output,
                          at::Tensor& gradient);

// Of the pass that runs for a slice of the images.
std::vector<PlanReport> report_pairs(Pass pass, const TileShape& tiles, const ConvShape& whole,
                                     const at::Tensor& input, const at::Tensor& weight,
                                     const at::Tensor& output);

}  // namespace convgrad::cpu
