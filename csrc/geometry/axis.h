// The one index relation of this project, solved for each of its three unknowns.
//
// Along one spatial axis, input pixel i, output pixel o and tap k meet where
//
//     i = o*stride - padding_lo + k*dilation,      0 <= i < I,  0 <= o < O,  0 <= k < K.
//
// Forward holds o fixed and sums over k, grad_weight holds k fixed and sums over o, grad_input holds
// i fixed and sums over the pairs (k, o) that reach it. No other file combines an index with stride,
// padding or dilation. Integers only: no torch, no SIMD, so that it can be read and tested alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "geometry/range.h"

namespace convgrad {

// Pixels that a dilated kernel spans. `Int` is int64_t, or a symbolic integer while tracing.
template <typename Int>
constexpr Int kernel_span(Int K, Int dilation) {
  return dilation * (K - 1) + 1;
}

template <typename Int>
constexpr Int padded_extent(Int I, Int padding_lo, Int padding_hi) {
  return I + padding_lo + padding_hi;
}

// O of the relation; the kernel must fit into the padded input.
template <typename Int>
constexpr Int output_extent(Int I, Int K, Int stride, Int padding_lo, Int padding_hi,
                            Int dilation) {
  return (padded_extent(I, padding_lo, padding_hi) - kernel_span(K, dilation)) / stride + 1;
}

// One meeting of a given input pixel: tap k reaches it from output pixel o.
struct Meeting {
  int64_t k, o;
};

// How a gathering pass moves along one axis. It owns the destination pixels d and sums over the taps
// t, reading the source pixel
//
//     s = origin + d*step + t*tap_step,      0 <= d < D,  0 <= t < T,  0 <= s < S.
//
// In forward the destination is the output and the source is the input; in grad_input the destination
// is one phase of the input and the source is grad_output.
struct Walk {
  int64_t D, S, T;                  // destination pixels, source pixels, taps
  int64_t origin, step, tap_step;   // in source pixels
  int64_t first_pixel, pixel_step;  // destination pixel d is at first_pixel + d*pixel_step
  int64_t first_tap, weight_step;   // tap t is the weight's first_tap + t*weight_step

  constexpr int64_t source(int64_t d, int64_t t) const { return origin + d * step + t * tap_step; }
  constexpr int64_t pixel(int64_t d) const { return first_pixel + d * pixel_step; }
  constexpr int64_t tap(int64_t t) const { return first_tap + t * weight_step; }

  // The taps whose source is inside the image.
  constexpr Range taps_of(int64_t d) const {
    const int64_t at = source(d, 0);
    if (tap_step > 0) return Range::within(ceil_div(-at, tap_step), ceil_div(S - at, tap_step), T);
    return Range::within(floor_div(at - S, -tap_step) + 1, floor_div(at, -tap_step) + 1, T);
  }

  // The number of meetings of a destination pixel and a source.
  constexpr int64_t meetings() const {
    int64_t count = 0;
    for (int64_t d : Range{0, D}) count += taps_of(d).size();
    return count;
  }

  // The destination pixels that meet every tap.
  constexpr Range interior() const {
    if (T == 0) return {0, 0};
    const int64_t nearest = tap_step > 0 ? 0 : T - 1, farthest = T - 1 - nearest;
    return Range::within(ceil_div(-source(0, nearest), step),
                         ceil_div(S - source(0, farthest), step), D);
  }

  // The most sources that `pixels` neighbouring destination pixels read, and the pixels between them.
  constexpr int64_t most_sources_of(int64_t pixels) const {
    if (T == 0 || pixels == 0) return 0;
    const int64_t span = (T - 1) * (tap_step > 0 ? tap_step : -tap_step) + 1;
    return std::min(S, (pixels - 1) * step + span);
  }

  // Every source that one of these destination pixels reads, and the pixels between them.
  constexpr Range sources_of(Range d) const {
    const Range sources = padded_sources_of(d);
    return Range::within(sources.lo, sources.hi, S);
  }

  // The sources of pixel d that are beyond all of pixel d - 1.
  constexpr Range new_sources_of(int64_t d) const {
    const Range before = sources_of({d - 1, d}), now = sources_of({d, d + 1});
    return {std::max(before.hi, now.lo), now.hi};
  }

  // As sources_of, with those in the padding.
  constexpr Range padded_sources_of(Range d) const {
    if (T == 0 || d.size() == 0) return {0, 0};
    const int64_t nearest = tap_step > 0 ? 0 : T - 1, farthest = T - 1 - nearest;
    return {source(d.lo, nearest), source(d.hi - 1, farthest) + 1};
  }
};

// One spatial axis of a convolution, in pixels. A single output has no next one, nor a single tap. Their
// stride and dilation count as 1, however large they were given, so that later products do not overflow.
struct Axis {
  int64_t I, O, K, stride, padding_lo, dilation;

  constexpr Axis(int64_t I, int64_t K, int64_t stride, int64_t padding_lo, int64_t padding_hi,
                 int64_t dilation)
      : I(I),
        O(output_extent(I, K, stride, padding_lo, padding_hi, dilation)),
        K(K),
        stride(O > 1 ? stride : 1),
        padding_lo(padding_lo),
        dilation(K > 1 ? dilation : 1) {}

  // The relation itself; the result may be in the padding.
  constexpr int64_t input(int64_t o, int64_t k) const {
    return o * stride - padding_lo + k * dilation;
  }

  // grad_weight: the outputs whose input under tap k is inside the image.
  constexpr Range outputs_of_tap(int64_t k) const {
    const int64_t offset = padding_lo - k * dilation;
    return Range::within(ceil_div(offset, stride), ceil_div(I + offset, stride), O);
  }

  // forward: the taps of output o inside the image.
  constexpr Range taps_of_output(int64_t o) const { return outputs().taps_of(o); }

  // forward as a walk over the outputs.
  constexpr Walk outputs() const {
    return {.D = O,
            .S = I,
            .T = K,
            .origin = -padding_lo,
            .step = stride,
            .tap_step = dilation,
            .first_pixel = 0,
            .pixel_step = 1,
            .first_tap = 0,
            .weight_step = 1};
  }

  // Inputs of the same (i + padding_lo) mod stride form a phase; the first ones are i = 0, 1, ...
  constexpr int64_t phases() const { return std::min(I, stride); }

  // grad_input as a walk over the phase of input `first`. With g = gcd(stride, dilation), all pixels of
  // a phase meet the same taps, every stride/g-th one, and from pixel to pixel the output moves by one: a
  // correlation of stride 1. A phase that g does not divide has no taps, and its gradient is zero.
  constexpr Walk inputs_of_phase(int64_t first) const {
    const int64_t first_tap = first_tap_of_input(first);
    const int64_t weight_step = stride / std::gcd(stride, dilation);
    const int64_t output_step = dilation / std::gcd(stride, dilation);
    return {.D = ceil_div(I - first, stride),
            .S = O,
            .T = ceil_div(K - first_tap, weight_step),
            .origin = floor_div(first + padding_lo - first_tap * dilation, stride),
            .step = 1,
            .tap_step = -output_step,
            .first_pixel = first,
            .pixel_step = stride,
            .first_tap = first_tap,
            .weight_step = weight_step};
  }

  // Whether output o meets the inputs from o*K to o*K + K - 1, and there are no others. The kernel is then as wide as the
  // stride or, if there is one output, as the input.
  constexpr bool is_in_pieces() const {
    return K > 1 && padding_lo == 0 && dilation == 1 && (O == 1 || stride == K) && O * K == I;
  }
  // The same axis, if the inputs of an output are one.
  constexpr Axis of_pieces() const { return {O, 1, 1, 0, 0, 1}; }

  // grad_input, pixel by pixel: every meeting of each input.
  std::vector<std::vector<Meeting>> meetings_of_inputs() const {
    std::vector<std::vector<Meeting>> meetings(I);
    for (int64_t first : Range{0, phases()}) {
      const Walk phase = inputs_of_phase(first);
      for (int64_t d : Range{0, phase.D})
        for (int64_t t : phase.taps_of(d))
          meetings[phase.pixel(d)].push_back({phase.tap(t), phase.source(d, t)});
    }
    return meetings;
  }

 private:
  // The least tap that meets input i at an output, inside the image or not; K where none does.
  constexpr int64_t first_tap_of_input(int64_t i) const {
    int64_t k = 0;
    while (k < K && (i + padding_lo - k * dilation) % stride != 0) ++k;
    return k;
  }
};

}  // namespace convgrad
