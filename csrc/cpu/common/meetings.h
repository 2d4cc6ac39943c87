// Sums over meetings one by one, without zeros for the padding: the product of a zero and an infinite weight is NaN.
#pragma once

#include <bit>
#include <cmath>
#include <type_traits>
#include <utility>

#include "cpu/common/gather.h"

namespace convgrad::cpu {

// The elements of a source and a weight: numbers, or pairs of bfloat16 numbers in the bits of a float32.
template <typename Sum>
struct Elements {
  bool pairs;

  bool is_finite(Sum element) const {
    if (!pairs) return std::isfinite(element);
    const auto [low, high] = numbers_of(element);
    return std::isfinite(low) && std::isfinite(high);
  }

  Sum product_of(Sum a, Sum b) const {
    if (!pairs) return a * b;
    const auto [a_low, a_high] = numbers_of(a);
    const auto [b_low, b_high] = numbers_of(b);
    return a_low * b_low + a_high * b_high;
  }

 private:
  static std::pair<Sum, Sum> numbers_of(Sum pair) {
    if constexpr (std::is_same_v<Sum, float>) {
      const auto bits = std::bit_cast<uint32_t>(pair);
      return {std::bit_cast<float>(bits << 16), std::bit_cast<float>(bits & 0xffff0000)};
    } else {
      return {pair, 0};  // no pass has pairs of wider numbers
    }
  }
};

// Of one channel of the source. Sums are of the order in which tiles add.
template <typename Sum>
Sum sum_of_meetings(const Gather& g, const Elements<Sum>& elements, const Sum* plane,
                    const Sum* weight, int64_t y, int64_t x) {
  Sum sum = 0;
  for (int64_t t_h : g.h.taps_of(y))
    for (int64_t t_w : g.w.taps_of(x))
      sum += elements.product_of(
          weight[g.h.tap(t_h) * g.weight.h + g.w.tap(t_w) * g.weight.w],
          plane[g.h.source(y, t_h) * g.source.h + g.w.source(x, t_w) * g.source.w]);
  return sum;
}

// visit(x, sum) for row y of a channel of the destination; `image` has the C channels of its group, `weight` those of the
// filter.
template <typename Sum, typename Visit>
void for_each_sum_of_meetings(const Gather& g, const Elements<Sum>& elements, const Sum* image,
                              const Sum* weight, int64_t y, const Visit& visit) {
  for (int64_t x : Range{0, g.w.D}) {
    Sum sum = 0;
    for (int64_t c : Range{0, g.C})
      sum += sum_of_meetings(g, elements, image + c * g.source.c, weight + c * g.weight.c, y, x);
    visit(x, sum);
  }
}

}  // namespace convgrad::cpu
