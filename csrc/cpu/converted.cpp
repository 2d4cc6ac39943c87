#include "cpu/converted.h"

#include <ATen/ATen.h>

#include <string>

#include "cpu/common/gather.h"
#include "cpu/passes.h"
#include "cpu/report.h"
#include "cpu/slices.h"

namespace convgrad::cpu {
namespace {

using at::Tensor;

// A complex channel is a real one and an imaginary one behind it. With x = a + bi and w = u + vi, the two of
// an output are the sums of a*u - b*v and of a*v + b*u, which is a real convolution with the weights
// [[u, -v], [v, u]]; its gradients are those of the complex one, whose other factor is conjugated.
constexpr int64_t kParts = 2;

ConvShape with_parts(ConvShape shape) {
  shape.C_in *= kParts, shape.C_out *= kParts;
  return shape;
}

// A tensor of the same memory format, where the elements have no gaps.
Tensor real_like(const Tensor& t) { return at::empty_like(t, dtype_of_tiles(t.scalar_type())); }

// [N, C, H, W] of complex numbers as [N, C, 2, H, W] of real ones: a view.
Tensor parts_of_images(const Tensor& t) { return at::view_as_real(t).permute({0, 1, 4, 2, 3}); }

// Images, in real channels.
Tensor converted(const Tensor& images) {
  if (!images.is_complex()) return real_like(images).copy_(images);
  const Tensor parts = parts_of_images(images);
  const auto format = images.suggest_memory_format();
  Tensor real = at::empty({images.size(0), kParts * images.size(1), images.size(2), images.size(3)},
                          parts.options(), format);
  real.unflatten(1, {images.size(1), kParts}).copy_(parts);
  return real;
}

// Without its elements, for a pass that computes them.
Tensor real_result(const Tensor& images) {
  if (!images.is_complex()) return real_like(images);
  return at::empty({images.size(0), kParts * images.size(1), images.size(2), images.size(3)},
                   images.options().dtype(dtype_of_tiles(images.scalar_type())),
                   images.suggest_memory_format());
}

// Rounds, or wraps an integer as the reference does: float64 has each sum of 2^37 products of 8 bits.
void copy_real(const Tensor& real, const Tensor& to) {
  const bool wraps = at::isIntegralType(to.scalar_type(), /*includeBool=*/false);
  to.copy_(wraps ? real.to(at::kLong) : real);
}

void store(const Tensor& real, const Tensor& images) {
  if (!images.is_complex()) {
    copy_real(real, images);
    return;
  }
  parts_of_images(images).copy_(real.unflatten(1, {images.size(1), kParts}));
}

// Calls `run` with memory for results, which is the images' own where tiles store numbers of their type.
template <typename Stored, typename Run>
void in_results(Tensor images, const Run& run) {
  if (images.scalar_type() == c10::CppTypeToScalarType<Stored>::value) {
    run(images);
    return;
  }
  Tensor real = real_result(images);
  run(real);
  store(real, images);
}

// [C_out, 2, C_in, 2, K_h, K_w]: the part of the output, and that of the input.
Tensor parts_of_weight(const Tensor& real) {
  return real.unflatten(1, {-1, kParts}).unflatten(0, {-1, kParts});
}

Tensor empty_weight(const Tensor& weight) {
  if (!weight.is_complex()) return real_like(weight);
  return at::empty(
      {kParts * weight.size(0), kParts * weight.size(1), weight.size(2), weight.size(3)},
      weight.options().dtype(dtype_of_tiles(weight.scalar_type())), weight.suggest_memory_format());
}

Tensor converted_weight(const Tensor& weight) {
  Tensor real = empty_weight(weight);
  if (!weight.is_complex()) return real.copy_(weight);
  const Tensor parts = parts_of_weight(real), u = at::real(weight), v = at::imag(weight);
  parts.select(1, 0).select(2, 0).copy_(u);
  parts.select(1, 0).select(2, 1).copy_(v).neg_();
  parts.select(1, 1).select(2, 0).copy_(v);
  parts.select(1, 1).select(2, 1).copy_(u);
  return real;
}

// The gradient in u is that of both places where it stands, and so is v's.
void store_weight(const Tensor& real, Tensor& grad_weight) {
  if (!grad_weight.is_complex()) {
    copy_real(real, grad_weight);
    return;
  }
  const Tensor parts = parts_of_weight(real);
  const auto part = [&](int64_t out, int64_t in) { return parts.select(1, out).select(2, in); };
  at::real(grad_weight).copy_(part(0, 0) + part(1, 1));
  at::imag(grad_weight).copy_(part(1, 0) - part(0, 1));
}

std::optional<Tensor> converted_bias(const std::optional<Tensor>& bias) {
  if (!bias) return std::nullopt;
  if (!bias->is_complex()) return bias->to(dtype_of_tiles(bias->scalar_type()));
  return at::view_as_real(*bias).reshape({-1});
}

ConvShape real_shape(const ConvShape& shape, const Tensor& operand) {
  return operand.is_complex() ? with_parts(shape) : shape;
}

}  // namespace

bool is_converted(at::ScalarType dtype) { return dtype_of_tiles(dtype) != dtype; }

at::ScalarType dtype_of_tiles(at::ScalarType dtype) {
  const bool precise = dtype == at::kDouble || dtype == at::kComplexDouble;
  const bool exact = dtype == at::kChar || dtype == at::kByte;
  return precise || exact ? at::kDouble : at::kFloat;
}

template <typename Stored, typename Sum>
void forward_converted(const Tiles<Stored, Sum>& tiles, const ConvShape& shape, const Tensor& input,
                       const Tensor& weight, const std::optional<Tensor>& bias, Tensor& output) {
  const Tensor filters = converted_weight(weight);
  const std::optional<Tensor> sums = converted_bias(bias);
  for_each_slice(real_shape(shape, input), sizeof(Sum), [&](const ConvShape& slice, Range images) {
    in_results<Stored>(images_of(output, images), [&](Tensor& result) {
      forward(tiles, slice, converted(images_of(input, images)), filters, sums, result);
    });
  });
}

template <typename Stored, typename Sum>
void grad_input_converted(const Tiles<Stored, Sum>& tiles, const ConvShape& shape,
                          const Tensor& weight, const Tensor& grad_output, Tensor& gradient) {
  const Tensor filters = converted_weight(weight);
  for_each_slice(real_shape(shape, weight), sizeof(Sum), [&](const ConvShape& slice, Range images) {
    in_results<Stored>(images_of(gradient, images), [&](Tensor& result) {
      grad_input(tiles, slice, filters, converted(images_of(grad_output, images)), result);
    });
  });
}

template <typename Sum>
void grad_weight_converted(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                           const Tensor& input, const Tensor& grad_output, Tensor& gradient) {
  Tensor sum = empty_weight(gradient), part;
  for_each_slice(real_shape(shape, input), sizeof(Sum), [&](const ConvShape& slice, Range images) {
    if (images.lo > 0 && !part.defined()) part = at::empty_like(sum);
    Tensor& result = images.lo > 0 ? part : sum;
    grad_weight(tiles, slice, converted(images_of(input, images)),
                converted(images_of(grad_output, images)), result);
    if (images.lo > 0) sum.add_(part);
  });
  if (shape.N == 0) sum.zero_();
  store_weight(sum, gradient);
}

std::vector<PlanReport> report_converted(Pass pass, const TileShape& tiles, const ConvShape& whole,
                                         const Tensor& input, const Tensor& weight,
                                         const Tensor& output) {
  ConvShape slice = real_shape(whole, input);
  const Blocks slices = slices_of(slice, tiles.sum_bytes);
  slice.N = slices.size;
  const Range images{0, slices.size};
  const PassStrides strides{Strides::of(real_result(images_of(input, images))),
                            Strides::of(empty_weight(weight)),
                            Strides::of(real_result(images_of(output, images)))};
  std::vector<PlanReport> reports = report_plan(pass, tiles, slice, strides);
  for (PlanReport& report : reports)
    report.blocking.emplace_back("images converted at a time", std::to_string(slices.size));
  return reports;
}

template void forward_converted(const Tiles<float, float>&, const ConvShape&, const Tensor&,
                                const Tensor&, const std::optional<Tensor>&, Tensor&);
template void forward_converted(const Tiles<at::BFloat16, float>&, const ConvShape&, const Tensor&,
                                const Tensor&, const std::optional<Tensor>&, Tensor&);
template void forward_converted(const Tiles<double, double>&, const ConvShape&, const Tensor&,
                                const Tensor&, const std::optional<Tensor>&, Tensor&);
template void grad_input_converted(const Tiles<float, float>&, const ConvShape&, const Tensor&,
                                   const Tensor&, Tensor&);
template void grad_input_converted(const Tiles<at::BFloat16, float>&, const ConvShape&,
                                   const Tensor&, const Tensor&, Tensor&);
template void grad_input_converted(const Tiles<double, double>&, const ConvShape&, const Tensor&,
                                   const Tensor&, Tensor&);
template void grad_weight_converted(const Tiles<float, float>&, const ConvShape&, const Tensor&,
                                    const Tensor&, Tensor&);
template void grad_weight_converted(const Tiles<double, double>&, const ConvShape&, const Tensor&,
                                    const Tensor&, Tensor&);

}  // namespace convgrad::cpu
