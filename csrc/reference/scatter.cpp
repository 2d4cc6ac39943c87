#include <ATen/ATen.h>

#include "reference/arithmetic.h"
#include "reference/reference.h"

namespace convgrad::reference {
namespace {

// Where one output element, one input element and one weight element meet.
struct Meeting2d {
  int64_t n, c_out, h_out, w_out;
  int64_t c_in, h_in, w_in;
  int64_t c_in_of_group, k_h, k_w;
};

// Walks every output and every tap and checks by the relation itself that the input is inside. It uses
// no closed form of a range.
template <typename Visit>
void for_each_meeting(const ConvShape& shape, const Visit& visit) {
  const auto inside = [](int64_t i, const Axis& axis) { return 0 <= i && i < axis.I; };
  for (int64_t n : Range{0, shape.N})
    for (int64_t c_out : Range{0, shape.C_out})
      for (int64_t h_out : Range{0, shape.h.O})
        for (int64_t w_out : Range{0, shape.w.O})
          for (int64_t c_in : shape.inputs_of(c_out))
            for (int64_t k_h : Range{0, shape.h.K})
              for (int64_t k_w : Range{0, shape.w.K}) {
                const int64_t h_in = shape.h.input(h_out, k_h), w_in = shape.w.input(w_out, k_w);
                if (inside(h_in, shape.h) && inside(w_in, shape.w))
                  visit(Meeting2d{n, c_out, h_out, w_out, c_in, h_in, w_in,
                                  c_in % shape.C_in_per_group(), k_h, k_w});
              }
}

// Calls `add_into` with wide zeros to add into, then rounds them into the destination once.
template <typename wide_t, typename AddInto>
void accumulate(at::Tensor& destination, const AddInto& add_into) {
  const auto wide = c10::CppTypeToScalarType<wide_t>::value;
  const at::Tensor sum = at::zeros(destination.sizes(), destination.options().dtype(wide));
  add_into(sum.accessor<wide_t, 4>());
  destination.copy_(sum);
}

}  // namespace

// A sum of shifted filters: every output adds the filter, weighted by the output's gradient, to the input
// pixels that it met.
void scatter_grad_input(const ConvShape& shape, const at::Tensor& weight_,
                        const at::Tensor& grad_output_, at::Tensor& grad_input) {
  dispatch(grad_input, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto weight = weight_.accessor<const scalar_t, 4>();
    const auto grad_output = grad_output_.accessor<const scalar_t, 4>();
    accumulate<decltype(widen(zero))>(grad_input, [&](auto sum) {
      for_each_meeting(shape, [&](const Meeting2d& m) {
        sum[m.n][m.c_in][m.h_in][m.w_in] +=
            conj(widen(weight[m.c_out][m.c_in_of_group][m.k_h][m.k_w])) *
            widen(grad_output[m.n][m.c_out][m.h_out][m.w_out]);
      });
    });
  });
}

// A sum of patches, the regions of an image under a kernel: every output adds its patch of the input,
// weighted by the output's gradient.
void scatter_grad_weight(const ConvShape& shape, const at::Tensor& input_,
                         const at::Tensor& grad_output_, at::Tensor& grad_weight) {
  dispatch(grad_weight, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto input = input_.accessor<const scalar_t, 4>();
    const auto grad_output = grad_output_.accessor<const scalar_t, 4>();
    accumulate<decltype(widen(zero))>(grad_weight, [&](auto sum) {
      for_each_meeting(shape, [&](const Meeting2d& m) {
        sum[m.c_out][m.c_in_of_group][m.k_h][m.k_w] +=
            conj(widen(input[m.n][m.c_in][m.h_in][m.w_in])) *
            widen(grad_output[m.n][m.c_out][m.h_out][m.w_out]);
      });
    });
  });
}

}  // namespace convgrad::reference
