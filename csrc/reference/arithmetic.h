// The number types and the threads of the reference loops.
#pragma once

#include <ATen/Dispatch_v2.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <c10/util/complex.h>

#include <algorithm>
#include <type_traits>

#include "geometry/axis.h"

namespace convgrad::reference {

// Sums have a wider type than tensors: half precision is added in float, float in double, and every
// integer modulo 2^64, where a sum beyond the dtype wraps round as PyTorch's does. The error of a sum is
// then smaller than the rounding of its result.
inline float widen(c10::Half x) { return x; }
inline float widen(c10::BFloat16 x) { return x; }
inline double widen(float x) { return x; }
inline double widen(double x) { return x; }
inline c10::complex<double> widen(c10::complex<float> x) { return {x.real(), x.imag()}; }
inline c10::complex<double> widen(c10::complex<double> x) { return x; }
template <typename T, typename = std::enable_if_t<std::is_integral_v<T>>>
uint64_t widen(T x) {
  return static_cast<uint64_t>(x);
}

// The gradient of a product conjugates the other factor; real numbers are their own conjugates.
template <typename T>
T conj(T x) {
  return x;
}
inline c10::complex<double> conj(c10::complex<double> x) { return {x.real(), -x.imag()}; }

// Calls `loops` with a zero of the tensor's dtype.
template <typename Loops>
void dispatch(const at::Tensor& destination, const Loops& loops) {
  AT_DISPATCH_V2(destination.scalar_type(), "convgrad_ext::reference",
                 AT_WRAP([&] { loops(scalar_t(0)); }), AT_EXPAND(AT_ALL_TYPES),
                 AT_EXPAND(AT_COMPLEX_TYPES), at::kHalf, at::kBFloat16);
}

// Threads share out the pairs (a, b) of a destination's two outer axes, `work` multiply-adds each.
template <typename Loop>
void parallel_over(int64_t A, int64_t B, int64_t work, const Loop& loop) {
  constexpr int64_t kWorkWorthAThread = 1 << 15;
  const int64_t grain = std::max<int64_t>(1, kWorkWorthAThread / std::max<int64_t>(1, work));
  at::parallel_for(0, A * B, grain, [&](int64_t begin, int64_t end) {
    for (int64_t ab : Range{begin, end}) loop(ab / B, ab % B);
  });
}

}  // namespace convgrad::reference
