#include "reference/arithmetic.h"
#include "reference/reference.h"

namespace convgrad::reference {

// output[n,c_out,h_out,w_out] = bias[c_out]
//     + sum over c_in and the taps of (h_out, w_out) of  input * weight
void forward(const ConvShape& shape, const at::Tensor& input_, const at::Tensor& weight_,
             const OptionalTensor& bias_, at::Tensor& output_) {
  dispatch(output_, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto input = input_.accessor<const scalar_t, 4>();
    const auto weight = weight_.accessor<const scalar_t, 4>();
    auto output = output_.accessor<scalar_t, 4>();
    const int64_t work = shape.output_pixels() * shape.C_in_per_group() * shape.taps();
    parallel_over(shape.N, shape.C_out, work, [&](int64_t n, int64_t c_out) {
      const Range channels = shape.inputs_of(c_out);
      const auto start = bias_ ? widen(bias_->accessor<const scalar_t, 1>()[c_out]) : widen(zero);
      for (int64_t h_out = 0; h_out < shape.h.O; ++h_out) {
        const Range taps_h = shape.h.taps_of_output(h_out);
        for (int64_t w_out = 0; w_out < shape.w.O; ++w_out) {
          const Range taps_w = shape.w.taps_of_output(w_out);
          auto sum = start;
          for (int64_t c_in : channels)
            for (int64_t k_h : taps_h)
              for (int64_t k_w : taps_w)
                sum += widen(input[n][c_in][shape.h.input(h_out, k_h)][shape.w.input(w_out, k_w)]) *
                       widen(weight[c_out][c_in - channels.lo][k_h][k_w]);
          output[n][c_out][h_out][w_out] = static_cast<scalar_t>(sum);
        }
      }
    });
  });
}

// grad_input[n,c_in,h_in,w_in] =
//     sum over c_out and the meetings (k, o) of (h_in, w_in) of  conj(weight) * grad_output
void grad_input(const ConvShape& shape, const at::Tensor& weight_, const at::Tensor& grad_output_,
                at::Tensor& grad_input_) {
  const auto meetings_h = shape.h.meetings_of_inputs();
  const auto meetings_w = shape.w.meetings_of_inputs();
  dispatch(grad_input_, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto weight = weight_.accessor<const scalar_t, 4>();
    const auto grad_output = grad_output_.accessor<const scalar_t, 4>();
    auto grad_input = grad_input_.accessor<scalar_t, 4>();
    const int64_t work = shape.output_pixels() * shape.C_out_per_group() * shape.taps();
    parallel_over(shape.N, shape.C_in, work, [&](int64_t n, int64_t c_in) {
      const int64_t c_in_of_group = c_in % shape.C_in_per_group();
      for (int64_t h_in = 0; h_in < shape.h.I; ++h_in) {
        for (int64_t w_in = 0; w_in < shape.w.I; ++w_in) {
          auto sum = widen(zero);
          for (int64_t c_out : shape.outputs_of(c_in))
            for (const Meeting& h : meetings_h[h_in])
              for (const Meeting& w : meetings_w[w_in])
                sum += conj(widen(weight[c_out][c_in_of_group][h.k][w.k])) *
                       widen(grad_output[n][c_out][h.o][w.o]);
          grad_input[n][c_in][h_in][w_in] = static_cast<scalar_t>(sum);
        }
      }
    });
  });
}

// grad_weight[c_out,c_in,k_h,k_w] =
//     sum over n and the outputs of tap (k_h, k_w) of  conj(input) * grad_output
void grad_weight(const ConvShape& shape, const at::Tensor& input_, const at::Tensor& grad_output_,
                 at::Tensor& grad_weight_) {
  dispatch(grad_weight_, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto input = input_.accessor<const scalar_t, 4>();
    const auto grad_output = grad_output_.accessor<const scalar_t, 4>();
    auto grad_weight = grad_weight_.accessor<scalar_t, 4>();
    const int64_t work = shape.N * shape.output_pixels() * shape.taps();
    parallel_over(shape.C_out, shape.C_in_per_group(), work, [&](int64_t c_out, int64_t c) {
      const int64_t c_in = shape.inputs_of(c_out).lo + c;
      for (int64_t k_h = 0; k_h < shape.h.K; ++k_h) {
        for (int64_t k_w = 0; k_w < shape.w.K; ++k_w) {
          auto sum = widen(zero);
          for (int64_t n = 0; n < shape.N; ++n)
            for (int64_t h_out : shape.h.outputs_of_tap(k_h))
              for (int64_t w_out : shape.w.outputs_of_tap(k_w))
                sum += conj(widen(
                           input[n][c_in][shape.h.input(h_out, k_h)][shape.w.input(w_out, k_w)])) *
                       widen(grad_output[n][c_out][h_out][w_out]);
          grad_weight[c_out][c][k_h][k_w] = static_cast<scalar_t>(sum);
        }
      }
    });
  });
}

// grad_bias[c_out] = sum over every output of grad_output
void grad_bias(const at::Tensor& grad_output_, at::Tensor& grad_bias_) {
  dispatch(grad_bias_, [&](auto zero) {
    using scalar_t = decltype(zero);
    const auto grad_output = grad_output_.accessor<const scalar_t, 4>();
    auto grad_bias = grad_bias_.accessor<scalar_t, 1>();
    const int64_t N = grad_output.size(0), H_out = grad_output.size(2), W_out = grad_output.size(3);
    parallel_over(1, grad_bias.size(0), N * H_out * W_out, [&](int64_t, int64_t c_out) {
      auto sum = widen(zero);
      for (int64_t n = 0; n < N; ++n)
        for (int64_t h_out = 0; h_out < H_out; ++h_out)
          for (int64_t w_out = 0; w_out < W_out; ++w_out)
            sum += widen(grad_output[n][c_out][h_out][w_out]);
      grad_bias[c_out] = static_cast<scalar_t>(sum);
    });
  });
}

}  // namespace convgrad::reference
