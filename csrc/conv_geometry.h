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
#include <limits>
#include <numeric>
#include <vector>

namespace convgrad {

// Quotients that round down and up for every sign of `a`; `b` is positive.
constexpr int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
constexpr int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

// The product of numbers that are not negative; the largest int64_t where it is larger. Extents of expanded
// tensors and dilations go up to 2^62, and a size that wrapped round would pass for a small one.
template <typename... Ints>
constexpr int64_t product(Ints... factors) {
  int64_t result = 1;
  bool zero = false, overflow = false;
  for (const int64_t factor : {static_cast<int64_t>(factors)...}) {
    zero = zero || factor == 0;
    overflow = __builtin_mul_overflow(result, factor, &result) || overflow;
  }
  if (zero) return 0;
  return overflow ? std::numeric_limits<int64_t>::max() : result;
}

// Where a pixel is stored, from pixel 0 on, in elements: the distance along one axis, or along two. It is
// counted modulo 2^64. A pixel in the padding can be so far away that its place is no int64_t; it is never
// read, and places inside come out right.
constexpr int64_t place(int64_t pixels, int64_t stride) {
  return static_cast<int64_t>(static_cast<uint64_t>(pixels) * static_cast<uint64_t>(stride));
}
constexpr int64_t place(int64_t y, int64_t stride_y, int64_t x, int64_t stride_x) {
  return static_cast<int64_t>(static_cast<uint64_t>(place(y, stride_y)) +
                              static_cast<uint64_t>(place(x, stride_x)));
}

// The half-open interval [lo, hi); never hi < lo.
struct Range {
  struct Iterator {
    int64_t value;
    constexpr int64_t operator*() const { return value; }
    constexpr Iterator& operator++() { return ++value, *this; }
    constexpr bool operator!=(Iterator other) const { return value != other.value; }
  };

  int64_t lo, hi;

  constexpr bool operator==(const Range&) const = default;
  constexpr int64_t size() const { return hi - lo; }
  constexpr Iterator begin() const { return {lo}; }
  constexpr Iterator end() const { return {hi}; }

  constexpr Range common_with(Range other) const {
    const int64_t first = std::max(lo, other.lo);
    return {first, std::max(first, std::min(hi, other.hi))};
  }

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
  int64_t D, S, T;
  int64_t origin, step, tap_step;
  int64_t first_pixel, pixel_step;  // destination pixel d lies at first_pixel + d*pixel_step
  int64_t first_tap, weight_step;   // tap t is the weight's first_tap + t*weight_step

  constexpr int64_t source(int64_t d, int64_t t) const { return origin + d * step + t * tap_step; }
  constexpr int64_t pixel(int64_t d) const { return first_pixel + d * pixel_step; }
  constexpr int64_t tap(int64_t t) const { return first_tap + t * weight_step; }

  // The taps whose source lies inside the image.
  constexpr Range taps_of(int64_t d) const {
    const int64_t at = source(d, 0);
    if (tap_step > 0) return Range::within(ceil_div(-at, tap_step), ceil_div(S - at, tap_step), T);
    return Range::within(floor_div(at - S, -tap_step) + 1, floor_div(at, -tap_step) + 1, T);
  }

  // How often a destination pixel and a source meet.
  constexpr int64_t meetings() const {
    int64_t count = 0;
    for (int64_t d : Range{0, D}) count += taps_of(d).size();
    return count;
  }

  // The most sources that so many neighbouring destination pixels read, and what lies between.
  constexpr int64_t most_sources_of(int64_t pixels) const {
    if (T == 0 || pixels == 0) return 0;
    const int64_t span = (T - 1) * (tap_step > 0 ? tap_step : -tap_step) + 1;
    return std::min(S, (pixels - 1) * step + span);
  }

  // Every source that some of these destination pixels reads, and what lies between.
  constexpr Range sources_of(Range d) const {
    if (T == 0 || d.size() == 0) return {0, 0};
    const int64_t nearest = tap_step > 0 ? 0 : T - 1, farthest = T - 1 - nearest;
    return Range::within(source(d.lo, nearest), source(d.hi - 1, farthest) + 1, S);
  }
};

// A range of source pixels sorted by phase, as a strip holds them: however large the step of a walk,
// from one destination pixel to the next the position moves by one.
struct PhaseOrder {
  Range sources;
  int64_t step, phase_size;

  PhaseOrder(const Walk& walk, Range destination)
      : sources(walk.sources_of(destination)),
        step(walk.step),
        phase_size(ceil_div(sources.size(), walk.step)) {}

  // Positions for so many sources; those of a phase that is one short are left empty.
  static constexpr int64_t size_of(int64_t sources, int64_t step) {
    return product(std::min(step, sources), ceil_div(sources, step));
  }
  constexpr int64_t size() const { return size_of(sources.size(), step); }
  constexpr int64_t position(int64_t s) const {
    const int64_t quotient = floor_div(s - sources.lo, step);
    return (s - sources.lo - quotient * step) * phase_size + quotient;
  }
  constexpr int64_t first_source(int64_t phase) const { return sources.lo + phase; }
  constexpr int64_t sources_in(int64_t phase) const {
    return std::max<int64_t>(0, ceil_div(sources.size() - phase, step));
  }

  // The phases that some tap of the walk reads.
  std::vector<int64_t> phases_read(const Walk& walk) const {
    std::vector<int64_t> phases;
    for (int64_t t : Range{0, walk.T}) {
      const int64_t from_lo = walk.source(0, t) - sources.lo;
      phases.push_back(from_lo - floor_div(from_lo, step) * step);
    }
    std::sort(phases.begin(), phases.end());
    phases.erase(std::unique(phases.begin(), phases.end()), phases.end());
    return phases;
  }
};

// A walk of step 1 and three taps, two destination pixels at a time: a patch. They lie as far apart as
// the taps do, so that the patch reads four sources, each at that distance from the next. With patches
// numbered through the residue classes (phases) of that distance, one after the other,
//
//     destination pixel i of patch p:  d = phase + distance*(2*p' + i),      i in {0, 1}
//     source j of patch p:             s = nearest + phase + distance*(2*p' + j),     0 <= j < 4
//
// where p' counts within the phase. Pixel i meets source i + k at the k-th nearest of the taps. Every
// phase has as many patches as the first; the last ones may lie beyond the image, wholly or by half.
struct PatchAxis {
  Walk walk;
  int64_t distance, nearest, phases, per_phase;

  static constexpr bool fits(const Walk& walk) { return walk.step == 1 && walk.T == 3; }

  explicit constexpr PatchAxis(const Walk& walk)
      : walk(walk),
        distance(walk.tap_step > 0 ? walk.tap_step : -walk.tap_step),
        nearest(walk.source(0, nearest_tap())),
        phases(std::min(distance, walk.D)),
        per_phase(ceil_div(ceil_div(walk.D, distance), 2)) {}

  constexpr int64_t size() const { return phases * per_phase; }
  constexpr int64_t nearest_tap() const { return walk.tap_step > 0 ? 0 : walk.T - 1; }
  // How many patches of the same phase follow from this one on.
  constexpr int64_t left_in_phase(int64_t p) const { return per_phase - p % per_phase; }

  constexpr int64_t destination(int64_t p, int64_t i) const {
    return p / per_phase + distance * (2 * (p % per_phase) + i);
  }
  constexpr int64_t source(int64_t p, int64_t j) const {
    return nearest + destination(p, 0) + distance * j;
  }
  // Of the sources of so many patches from this one on, counted as j is, those inside the image.
  constexpr Range sources_inside(int64_t p, int64_t patches) const {
    const int64_t first = source(p, 0);
    return Range::within(ceil_div(-first, distance), ceil_div(walk.S - first, distance),
                         2 * patches + 2);
  }
  // Of their destination pixels, how many are inside the image.
  constexpr int64_t pixels_inside(int64_t p, int64_t patches) const {
    const int64_t left = ceil_div(walk.D - destination(p, 0), distance);
    return std::max<int64_t>(0, std::min(2 * patches, left));
  }
  // From destination pixel to pixel in the image.
  constexpr int64_t pixel_step() const { return distance * walk.pixel_step; }
};

// One spatial axis of a convolution. A single output has no next one, nor a single tap: their stride
// and dilation count as 1, however large they were given, and later products stay in range.
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
  constexpr Range taps_of_output(int64_t o) const { return outputs().taps_of(o); }

  // forward as a walk over the outputs.
  constexpr Walk outputs() const { return {O, I, K, -padding_lo, stride, dilation, 0, 1, 0, 1}; }

  // Inputs of the same (i + padding_lo) mod stride form a phase; the first ones are i = 0, 1, ...
  constexpr int64_t phases() const { return std::min(I, stride); }

  // grad_input as a walk over the phase of input `first`. Its pixels all meet the same taps, every
  // stride/g-th one for g = gcd(stride, dilation), and from pixel to pixel the output moves by one: a
  // correlation of stride 1. A phase that g does not divide has no taps, and its gradient is zero.
  constexpr Walk inputs_of_phase(int64_t first) const {
    const int64_t first_tap = first_tap_of_input(first);
    const int64_t weight_step = stride / std::gcd(stride, dilation);
    const int64_t output_step = dilation / std::gcd(stride, dilation);
    const int64_t pixels = ceil_div(I - first, stride), taps = ceil_div(K - first_tap, weight_step);
    const int64_t origin = floor_div(first + padding_lo - first_tap * dilation, stride);
    return {pixels, O, taps, origin, 1, -output_step, first, stride, first_tap, weight_step};
  }

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
