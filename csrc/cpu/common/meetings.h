// Sums over meetings one by one, without zeros for the padding: the product of a zero and an infinite weight is NaN.
#pragma once

#include "cpu/common/gather.h"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
Sum sum_of_meetings(const Gather& g, const Stored* plane, const Stored* weight, int64_t y,
                    int64_t x) {
  Sum sum = 0;
  for (int64_t t_h : g.h.taps_of(y))
    for (int64_t t_w : g.w.taps_of(x))
      sum += static_cast<Sum>(weight[g.h.tap(t_h) * g.weight.h + g.w.tap(t_w) * g.weight.w]) *
             static_cast<Sum>(
                 plane[g.h.source(y, t_h) * g.source.h + g.w.source(x, t_w) * g.source.w]);
  return sum;
}

// visit(x, sum) for row y of a channel of the destination; `image` has the C channels of its group, `weight` those of the
// filter.
template <typename Sum, typename Stored, typename Visit>
void for_each_sum_of_meetings(const Gather& g, const Stored* image, const Stored* weight, int64_t y,
                              const Visit& visit) {
  for (int64_t x : Range{0, g.w.D}) {
    Sum sum = 0;
    for (int64_t c : Range{0, g.C})
      sum += sum_of_meetings<Stored, Sum>(g, image + c * g.source.c, weight + c * g.weight.c, y, x);
    visit(x, sum);
  }
}

}  // namespace convgrad::cpu
