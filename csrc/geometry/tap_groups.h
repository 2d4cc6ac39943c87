// Taps that share sources: what a destination pixel meets under one tap, its neighbour meets under another.
// Integers only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "geometry/axis.h"

namespace convgrad {

// Some taps of a walk, by rising source: tap j is first_tap + j*tap_step, and
//
//     source(d, tap j + 1) = source(d + pixels_apart, tap j).
struct TapGroup {
  int64_t first_tap, tap_step, count;

  constexpr bool operator==(const TapGroup&) const = default;

  // The number of destination pixels between two that share sources. With g = gcd(step, tap_step), the relation above
  // holds for taps that are step/g apart, and pixels that are tap_step/g apart.
  static constexpr int64_t pixels_apart(const Walk& walk) {
    return distance(walk) / std::gcd(walk.step, distance(walk));
  }

  // Those of these taps that are in a range.
  constexpr TapGroup common_with(Range taps) const {
    const int64_t step = tap_step > 0 ? tap_step : -tap_step;
    const Range some = tap_step > 0
                           ? Range::within(ceil_div(taps.lo - first_tap, step),
                                           ceil_div(taps.hi - first_tap, step), count)
                           : Range::within(floor_div(first_tap - taps.hi, step) + 1,
                                           floor_div(first_tap - taps.lo, step) + 1, count);
    return {first_tap + some.lo * tap_step, tap_step, some.size()};
  }

  // The taps of a range in as few groups as there are, of at most `largest` taps.
  static std::vector<TapGroup> of(const Walk& walk, Range taps, int64_t largest) {
    const int64_t apart = walk.step / std::gcd(walk.step, distance(walk));
    const int64_t tap_step = walk.tap_step > 0 ? apart : -apart;
    std::vector<TapGroup> groups;
    for (int64_t phase : Range{0, std::min(apart, taps.size())}) {
      const int64_t all = ceil_div(taps.size() - phase, apart);
      const int64_t pieces = ceil_div(all, largest), size = ceil_div(all, pieces);
      for (int64_t from = 0; from < all; from += size) {
        const int64_t count = std::min(size, all - from);
        const int64_t nearest = walk.tap_step > 0 ? from : from + count - 1;
        groups.push_back({taps.lo + phase + nearest * apart, tap_step, count});
      }
    }
    return groups;
  }

 private:
  static constexpr int64_t distance(const Walk& walk) {
    return walk.tap_step > 0 ? walk.tap_step : -walk.tap_step;
  }
};

// `rows` destination pixels that are pixels_apart from each other, from `first` on.
struct PixelGroup {
  int64_t first, rows;

  // The pixels of a range in groups of at most `most`, of nearly equal size.
  static std::vector<PixelGroup> of(const Walk& walk, Range pixels, int64_t most) {
    const int64_t apart = TapGroup::pixels_apart(walk);
    std::vector<PixelGroup> groups;
    for (int64_t first : Range{0, std::min(apart, pixels.size())}) {
      const int64_t all = ceil_div(pixels.size() - first, apart);
      const int64_t pieces = ceil_div(all, most), size = ceil_div(all, pieces);
      for (int64_t from = 0; from < all; from += size)
        groups.push_back({pixels.lo + first + from * apart, std::min(size, all - from)});
    }
    return groups;
  }
};

}  // namespace convgrad
