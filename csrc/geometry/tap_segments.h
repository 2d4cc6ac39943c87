// A line of destination pixels, cut where the set of taps changes. Integers only.
#pragma once

#include <cstdint>
#include <vector>

#include "geometry/axis.h"

namespace convgrad {

// Pixels next to each other on one axis that meet the same taps.
struct TapSegment {
  Range pixels, taps;

  static std::vector<TapSegment> of(const Walk& walk, Range pixels) {
    std::vector<TapSegment> segments;
    for (int64_t d : pixels) {
      const Range taps = walk.taps_of(d);
      if (!segments.empty() && segments.back().taps == taps)
        segments.back().pixels.hi = d + 1;
      else
        segments.push_back({{d, d + 1}, taps});
    }
    return segments;
  }
};

}  // namespace convgrad
