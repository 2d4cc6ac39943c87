// Extents cut into blocks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "geometry/range.h"

namespace convgrad::cpu {

// `count` blocks of at most `size` that cover an extent.
struct Blocks {
  int64_t count, size;

  // The fewest blocks of at most `largest`, of equal size except for the last ones.
  static Blocks covering(int64_t extent, int64_t largest) {
    const int64_t count = (extent + largest - 1) / largest;
    return {count, count == 0 ? 0 : (extent + count - 1) / count};
  }
  Range at(int64_t block, int64_t extent) const {
    return Range::within(block * size, (block + 1) * size, extent);
  }
};

}  // namespace convgrad::cpu
