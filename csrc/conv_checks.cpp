#include "conv_checks.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

namespace convgrad {
namespace {

template <typename Int>
using Size4 = std::array<Int, 4>;

// A product that overflowed could look like a small number; symbols are checked when they are numbers.
int64_t times(int64_t a, int64_t b) { return product(a, b); }
c10::SymInt times(const c10::SymInt& a, const c10::SymInt& b) { return a * b; }

// A comparison of a symbol would become a guard of the graph; numbers are compared when the graph runs.
bool at_most(int64_t a, int64_t bound) { return a <= bound; }
bool at_most(const c10::SymInt& a, const c10::SymInt& bound) {
  const auto number = a.maybe_as_int(), bound_number = bound.maybe_as_int();
  return !number || !bound_number || *number <= *bound_number;
}

template <typename Int>
bool any_below(c10::ArrayRef<Int> values, int64_t bound) {
  return std::any_of(values.begin(), values.end(), [&](const Int& v) { return v < bound; });
}

template <typename Int>
void check_ranks(c10::ArrayRef<Int> input_size, c10::ArrayRef<Int> weight_size,
                 const ConvParams<Int>& params) {
  TORCH_CHECK(weight_size.size() >= 3, "weight should have at least three dimensions");
  const size_t spatial = weight_size.size() - 2;
  TORCH_CHECK(spatial == 2, "expected stride to be a single integer value or a list of ", spatial,
              " values to match the convolution dimensions, but got stride=", params.stride);
  TORCH_CHECK(input_size.size() == 4, "Expected 4-dimensional input for 4-dimensional weight ",
              weight_size, ", but got ", input_size.size(), "-dimensional input of size ",
              input_size, " instead");
}

template <typename Int>
void check_params(const ConvParams<Int>& params) {
  TORCH_CHECK(
      params.stride.size() == 2 && params.dilation.size() == 2 && params.padding.size() == 4,
      "expected 2 values of stride, 4 of padding (top, bottom, left, right) and 2 of "
      "dilation, but got stride=",
      params.stride, ", padding=", params.padding, ", dilation=", params.dilation);
  TORCH_CHECK(params.groups > 0, "non-positive groups is not supported");
  TORCH_CHECK(!any_below(params.padding, 0), "negative padding is not supported");
  TORCH_CHECK(!any_below(params.stride, 1), "non-positive stride is not supported");
  TORCH_CHECK(!any_below(params.dilation, 0), "dilation should be greater than zero");
  TORCH_CHECK(!any_below(params.dilation, 1), "non-positive dilation is not supported");
  for (size_t side = 0; side < params.padding.size(); ++side)
    TORCH_CHECK(at_most(params.padding[side], kLargestExtent),
                "Given padding=", params.padding[side], " at dimension ", side / 2,
                " , expected padding to be at most ", kLargestExtent);
}

template <typename Int>
void check_channels(c10::ArrayRef<Int> input_size, c10::ArrayRef<Int> weight_size,
                    const Int& groups) {
  TORCH_CHECK(weight_size[0] >= groups, "Given groups=", groups,
              ", expected weight to be at least ", groups,
              " at dimension 0, but got weight of size ", weight_size, " instead");
  TORCH_CHECK(weight_size[0] % groups == 0, "Given groups=", groups,
              ", expected weight to be divisible by ", groups,
              " at dimension 0, but got weight of size [", weight_size, "] instead");
  const Int channels = times(weight_size[1], groups);
  TORCH_CHECK(input_size[1] == channels, "Given groups=", groups, ", weight of size ", weight_size,
              ", expected input", input_size, " to have ", channels, " channels, but got ",
              input_size[1], " channels instead");
}

// The extents of the padded image and of the kernel have to fit into int64_t. A single tap has no next
// tap, so that it can have any dilation.
template <typename Int>
void check_extents_of_axis(size_t d, const Int& I, const Int& K, const ConvParams<Int>& params) {
  const Int &lo = params.padding[2 * d], &hi = params.padding[2 * d + 1];
  TORCH_CHECK(at_most(I, kLargestNumber - (lo + hi)), "Given padding=(", lo, ", ", hi,
              ") at dimension ", d, " of ", I, " pixels, expected at most ", kLargestNumber,
              " pixels with the padding");
  TORCH_CHECK(params.dilation[d] <= kLargestExtent / K || K == 1,
              "Given dilation=", params.dilation[d], " and a kernel of ", K, " taps at dimension ",
              d, ", expected dilation to be at most ", kLargestExtent / K);
}

template <typename Int>
void check_kernel_fits(c10::ArrayRef<Int> input_size, c10::ArrayRef<Int> weight_size,
                       const ConvParams<Int>& params) {
  TORCH_CHECK(weight_size[2] > 0 && weight_size[3] > 0,
              "weight: kernel size must be at least 1 x 1, but got weight of size ", weight_size);
  for (size_t d = 0; d < 2; ++d)
    check_extents_of_axis(d, input_size[2 + d], weight_size[2 + d], params);
  const Int padded_h = padded_extent<Int>(input_size[2], params.padding[0], params.padding[1]);
  const Int padded_w = padded_extent<Int>(input_size[3], params.padding[2], params.padding[3]);
  const Int span_h = kernel_span<Int>(weight_size[2], params.dilation[0]);
  const Int span_w = kernel_span<Int>(weight_size[3], params.dilation[1]);
  TORCH_CHECK(padded_h >= span_h && padded_w >= span_w,
              "Calculated padded input size per channel: (", padded_h, " x ", padded_w,
              "). Kernel size: (", span_h, " x ", span_w,
              "). Kernel size can't be greater than actual input size");
  TORCH_CHECK(
      (input_size[2] > 0 && input_size[3] > 0) || input_size[0] == 0 || input_size[1] == 0,
      "Only zero batch or zero channel inputs are supported, but got input shape: ", input_size);
}

// The size of the output, after every check that needs sizes alone.
template <typename Int>
Size4<Int> checked_output_size(c10::ArrayRef<Int> input_size, c10::ArrayRef<Int> weight_size,
                               const ConvParams<Int>& params) {
  check_ranks(input_size, weight_size, params);
  check_params(params);
  check_channels(input_size, weight_size, params.groups);
  check_kernel_fits(input_size, weight_size, params);
  // As in PyTorch, an input without channels makes an output without channels.
  const Int C_out = input_size[1] == 0 ? Int(0) : weight_size[0];
  return {input_size[0], C_out,
          output_extent<Int>(input_size[2], weight_size[2], params.stride[0], params.padding[0],
                             params.padding[1], params.dilation[0]),
          output_extent<Int>(input_size[3], weight_size[3], params.stride[1], params.padding[2],
                             params.padding[3], params.dilation[1])};
}

template <typename Int>
void check_bias(const at::Tensor& input, const at::Tensor& bias, c10::ArrayRef<Int> weight_size) {
  TORCH_CHECK(bias.dtype() == input.dtype(), "Input type (", input.dtype().name(),
              ") and bias type (", bias.dtype().name(), ") should be the same");
  const auto bias_size = at::symint::sizes<Int>(bias);
  TORCH_CHECK(bias_size.size() == 1 && bias_size[0] == weight_size[0], "Given weight of size ",
              weight_size, ", expected bias to be 1-dimensional with ", weight_size[0],
              " elements, but got bias of size ", bias_size, " instead");
}

template <typename Int>
void check_grad_output_size(c10::ArrayRef<Int> input_size, c10::ArrayRef<Int> weight_size,
                            const at::Tensor& grad_output, const ConvParams<Int>& params) {
  const Size4<Int> output_size = checked_output_size(input_size, weight_size, params);
  const auto grad_output_size = at::symint::sizes<Int>(grad_output);
  TORCH_CHECK(grad_output_size.equals(output_size), "Given input of size ", input_size,
              " and weight of size ", weight_size, ", expected grad_output to have the size ",
              c10::ArrayRef<Int>(output_size), " of the output, but got ", grad_output_size,
              " instead");
}

// Dtype, device and layout.
void check_same_type(const char* base_name, const at::Tensor& base, const char* name,
                     const at::Tensor& other) {
  TORCH_CHECK(base.options().type_equal(other.options()), base_name, " type (", base.toString(),
              ") and ", name, " type (", other.toString(), ") should be the same");
  TORCH_CHECK(base.device() == other.device(),
              "Expected all tensors to be on the same device, but ", base_name, " is on ",
              base.device(), " and ", name, " is on ", other.device());
}

constexpr auto kContiguous = at::MemoryFormat::Contiguous;
constexpr auto kChannelsLast = at::MemoryFormat::ChannelsLast;

bool is_channels_last(const at::Tensor& t) { return t.suggest_memory_format() == kChannelsLast; }

// Where both formats are the same memory, a tensor counts as contiguous.
bool is_channels_last_alone(const at::Tensor& t) {
  return is_channels_last(t) && !t.is_contiguous(kContiguous);
}

// Whether the elements have no gaps, in some order of the dimensions; these are found from the innermost
// one outwards. Symbols are compared for equality only, in an order in which the usual formats need no
// guard: any other comparison would become a guard of the graph.
template <typename Int>
bool is_dense(c10::ArrayRef<Int> size, c10::ArrayRef<Int> strides) {
  std::vector<size_t> left;
  for (size_t d = 0; d < size.size(); ++d)
    if (size[d] > 1) left.push_back(d);
  for (Int expected = 1; !left.empty();) {
    const auto innermost =
        std::find_if(left.rbegin(), left.rend(), [&](size_t d) { return strides[d] == expected; });
    if (innermost == left.rend()) return false;
    expected = times(expected, size[*innermost]);
    left.erase(std::next(innermost).base());
  }
  return true;
}

template <typename Int>
at::Tensor empty_strided(c10::ArrayRef<Int> size, c10::ArrayRef<Int> strides,
                         const at::TensorOptions& options) {
  TORCH_CHECK(strides.size() == size.size() && !any_below(strides, 0),
              "expected grad_strides to be ", size.size(),
              " numbers of at least 0, but got grad_strides=", strides);
  if (!is_dense(size, strides)) return at::symint::empty<Int>(size, options, kContiguous);
  return at::symint::empty_strided<Int>(size, strides, options);
}

template <typename Int>
at::Tensor empty_gradient(c10::ArrayRef<Int> size, const at::Tensor& a, const at::Tensor& b,
                          c10::OptionalArrayRef<Int> grad_strides) {
  if (grad_strides) return empty_strided(size, *grad_strides, a.options());
  const bool last = is_channels_last_alone(a) || is_channels_last_alone(b);
  const bool same = size[1] == 1 || (size[2] == 1 && size[3] == 1);  // the same memory
  return at::symint::empty<Int>(size, a.options(), last && !same ? kChannelsLast : kContiguous);
}

}  // namespace

template <typename Int>
at::Tensor empty_output(const at::Tensor& input, const at::Tensor& weight,
                        const std::optional<at::Tensor>& bias, const ConvParams<Int>& params) {
  const auto weight_size = at::symint::sizes<Int>(weight);
  if (bias) check_bias<Int>(input, *bias, weight_size);
  const auto size = checked_output_size<Int>(at::symint::sizes<Int>(input), weight_size, params);
  check_same_type("Input", input, "weight", weight);
  if (bias) check_same_type("Input", input, "bias", *bias);
  const bool last = is_channels_last(input) || is_channels_last(weight);
  return at::symint::empty<Int>(size, input.options(), last ? kChannelsLast : kContiguous);
}

template <typename Int>
at::Tensor empty_grad_input(c10::ArrayRef<Int> input_size, const at::Tensor& weight,
                            const at::Tensor& grad_output, const ConvParams<Int>& params,
                            c10::OptionalArrayRef<Int> grad_strides) {
  check_grad_output_size<Int>(input_size, at::symint::sizes<Int>(weight), grad_output, params);
  check_same_type("grad_output", grad_output, "weight", weight);
  return empty_gradient<Int>(input_size, grad_output, weight, grad_strides);
}

template <typename Int>
at::Tensor empty_grad_weight(const at::Tensor& input, c10::ArrayRef<Int> weight_size,
                             const at::Tensor& grad_output, const ConvParams<Int>& params,
                             c10::OptionalArrayRef<Int> grad_strides) {
  check_grad_output_size<Int>(at::symint::sizes<Int>(input), weight_size, grad_output, params);
  check_same_type("grad_output", grad_output, "input", input);
  return empty_gradient<Int>(weight_size, grad_output, input, grad_strides);
}

ConvShape make_conv_shape(c10::IntArrayRef input_size, c10::IntArrayRef weight_size,
                          const ConvParams<int64_t>& params) {
  const auto axis = [&](size_t d) {
    return Axis(input_size[2 + d], weight_size[2 + d], params.stride[d], params.padding[2 * d],
                params.padding[2 * d + 1], params.dilation[d]);
  };
  const int64_t C_out = input_size[1] == 0 ? 0 : weight_size[0];
  return {input_size[0], params.groups, input_size[1], C_out, axis(0), axis(1)};
}

using OptionalBias = std::optional<at::Tensor>;
using IntParams = ConvParams<int64_t>;
using SymIntParams = ConvParams<c10::SymInt>;

template at::Tensor empty_output(const at::Tensor&, const at::Tensor&, const OptionalBias&,
                                 const IntParams&);
template at::Tensor empty_output(const at::Tensor&, const at::Tensor&, const OptionalBias&,
                                 const SymIntParams&);
template at::Tensor empty_grad_input(c10::IntArrayRef, const at::Tensor&, const at::Tensor&,
                                     const IntParams&, at::OptionalIntArrayRef);
template at::Tensor empty_grad_input(c10::SymIntArrayRef, const at::Tensor&, const at::Tensor&,
                                     const SymIntParams&, at::OptionalSymIntArrayRef);
template at::Tensor empty_grad_weight(const at::Tensor&, c10::IntArrayRef, const at::Tensor&,
                                      const IntParams&, at::OptionalIntArrayRef);
template at::Tensor empty_grad_weight(const at::Tensor&, c10::SymIntArrayRef, const at::Tensor&,
                                      const SymIntParams&, at::OptionalSymIntArrayRef);

}  // namespace convgrad
