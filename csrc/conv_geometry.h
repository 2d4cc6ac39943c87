// The one index relation of this project, solved for each of its three unknowns.
//
// Along one spatial axis, input pixel i, output pixel o and tap k meet where
//
//     i = o*stride - padding_lo + k*dilation,      0 <= i < I,  0 <= o < O,  0 <= k < K.
//
// Forward holds o fixed and sums over k, grad_weight holds k fixed and sums over o, grad_input holds
// i fixed and sums over the pairs (k, o) that reach it. No other file lets an index meet stride,
// padding or dilation. Integers only: no torch, no SIMD, so that it can be read and tested alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace convgrad {

// Quotients that round down and up for every sign of `a`; `b` is positive.
constexpr int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
constexpr int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

// The half-open interval [lo, hi); never hi < lo.
struct Range {
  struct Iterator {
    int64_t value;
    constexpr int64_t operator*() const { return value; }
    constexpr Iterator& operator++() { return ++value, *this; }
    constexpr bool operator!=(Iterator other) const { return value != other.value; }
  };

  int64_t lo, hi;

  constexpr int64_t size() const { return hi - lo; }
  constexpr Iterator begin() const { return {lo}; }
  constexpr Iterator end() const { return {hi}; }

  // [lo, hi) cut to [0, extent); padding beyond the kernel makes ranges that miss it altogether.
  static constexpr Range within(int64_t lo, int64_t hi, int64_t extent) {
    const int64_t first = std::min(std::max<int64_t>(lo, 0), extent);
    return {first, std::max(first, std::min(hi, extent))};
  }
};

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

template <typename Int>
struct Padding {
  Int lo, hi;
};

// padding='same': as much as makes O = ceil(I / stride); an odd pixel goes to the far side.
template <typename Int>
constexpr Padding<Int> same_padding(Int I, Int K, Int stride, Int dilation) {
  const Int O = (I + stride - 1) / stride;
  const Int missing = (O - 1) * stride + kernel_span(K, dilation) - I;
  const Int total = missing > 0 ? missing : Int(0);
  return {total / 2, total - total / 2};
}

// One meeting of a given input pixel: tap k reaches it from output pixel o.
struct Meeting {
  int64_t k, o;
};

// All meetings of one input pixel, numbered by t: along them k climbs while o falls.
struct Meetings {
  struct Iterator {
    const Meetings* meetings;
    int64_t t;
    constexpr Meeting operator*() const { return (*meetings)[t]; }
    constexpr Iterator& operator++() { return ++t, *this; }
    constexpr bool operator!=(Iterator other) const { return t != other.t; }
  };

  Range t;
  Meeting first;  // where t would be 0, in range or not
  int64_t tap_step, output_step;

  constexpr Meeting operator[](int64_t t) const {
    return {first.k + t * tap_step, first.o - t * output_step};
  }
  constexpr int64_t size() const { return t.size(); }
  constexpr Iterator begin() const { return {this, t.lo}; }
  constexpr Iterator end() const { return {this, t.hi}; }
};

// The input pixels i = r - padding_lo (mod stride), numbered by j. They all meet the same taps, and
// for each of these taps j and o advance together: a phase is a correlation of stride 1.
//
//     i = first_input + j*stride,   k = first_tap + t*tap_step,   o = j + output_offset - t*output_step
struct Phase {
  int64_t I, first_input;          // 0 <= j < I
  int64_t T, first_tap, tap_step;  // 0 <= t < T; T is 0 where no tap reaches the phase
  int64_t output_offset, output_step;
  int64_t O;

  constexpr Meetings meetings(int64_t j) const {
    const int64_t o = j + output_offset;
    const Range t =
        Range::within(ceil_div(o - O + 1, output_step), floor_div(o, output_step) + 1, T);
    return {t, {first_tap, o}, tap_step, output_step};
  }
};

// One spatial axis of a convolution.
struct Axis {
  int64_t I, O, K, stride, padding_lo, dilation;

  constexpr Axis(int64_t I, int64_t K, int64_t stride, int64_t padding_lo, int64_t padding_hi,
                 int64_t dilation)
      : I(I),
        O(output_extent(I, K, stride, padding_lo, padding_hi, dilation)),
        K(K),
        stride(stride),
        padding_lo(padding_lo),
        dilation(dilation) {}

  // The relation itself; the result may lie in the padding.
  constexpr int64_t input(int64_t o, int64_t k) const {
    return o * stride - padding_lo + k * dilation;
  }

  // grad_weight: the outputs whose input under tap k lies inside the image.
  constexpr Range outputs_of_tap(int64_t k) const {
    const int64_t offset = padding_lo - k * dilation;
    return Range::within(ceil_div(offset, stride), ceil_div(I + offset, stride), O);
  }

  // forward: the taps of output o that lie inside the image.
  constexpr Range taps_of_output(int64_t o) const {
    const int64_t offset = padding_lo - o * stride;
    return Range::within(ceil_div(offset, dilation), ceil_div(I + offset, dilation), K);
  }

  // grad_input: the phase r = (i + padding_lo) mod stride, for 0 <= r < stride.
  constexpr Phase phase(int64_t r) const {
    const int64_t skipped = std::max<int64_t>(0, ceil_div(padding_lo - r, stride));
    const int64_t first_input = r - padding_lo + skipped * stride;
    const int64_t pixels = std::max<int64_t>(0, ceil_div(I - first_input, stride));
    const int64_t first_tap = first_tap_of_phase(r);
    const int64_t tap_step = stride / std::gcd(stride, dilation);
    const int64_t output_step = dilation / std::gcd(stride, dilation);
    const int64_t offset = floor_div(first_input + padding_lo - first_tap * dilation, stride);
    return {pixels,
            first_input,
            ceil_div(K - first_tap, tap_step),
            first_tap,
            tap_step,
            offset,
            output_step,
            O};
  }

  // grad_input: every (tap, output) that reaches input i.
  constexpr Meetings meetings_of_input(int64_t i) const {
    const Phase p = phase((i + padding_lo) % stride);
    return p.meetings((i - p.first_input) / stride);
  }

 private:
  // The least tap with k*dilation = r (mod stride); K where the kernel has none.
  constexpr int64_t first_tap_of_phase(int64_t r) const {
    int64_t k = 0;
    while (k < K && (r - k * dilation) % stride != 0) ++k;
    return k;
  }
};

}  // namespace convgrad
