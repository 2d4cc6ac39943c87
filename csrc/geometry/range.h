// Ranges of indices, and integers that do not overflow. No torch, no SIMD.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace convgrad {

// Quotients that round down and up for every sign of `a`; `b` is positive.
constexpr int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
constexpr int64_t ceil_div(int64_t a, int64_t b) { return -floor_div(-a, b); }

// The product of numbers that are not negative; the largest int64_t where it is larger. Extents of expanded
// tensors and dilations go up to 2^62, and a product that overflowed could look like a small size.
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

// The sum of numbers that are not negative; the largest int64_t where it is larger.
template <typename... Ints>
constexpr int64_t total(Ints... terms) {
  int64_t result = 0;
  bool overflow = false;
  for (const int64_t term : {static_cast<int64_t>(terms)...})
    overflow = __builtin_add_overflow(result, term, &result) || overflow;
  return overflow ? std::numeric_limits<int64_t>::max() : result;
}

// The distance in memory from pixel 0 to a pixel, in elements, along one axis or two. It is counted modulo
// 2^64, because the place of a pixel in the padding can exceed int64_t. Such a pixel is never read, and places
// inside the image are right.
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

  // [lo, hi) cut to [0, extent); where padding exceeds the kernel, the two have nothing in common.
  static constexpr Range within(int64_t lo, int64_t hi, int64_t extent) {
    const int64_t first = std::min(std::max<int64_t>(lo, 0), extent);
    return {first, std::max(first, std::min(hi, extent))};
  }
};

}  // namespace convgrad
