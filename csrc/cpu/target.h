// The numbers that a plan counts with, beside those of the convolution.
#pragma once

#include <algorithm>
#include <numeric>

#include "cpu/budget.h"
#include "cpu/costs.h"
#include "cpu/kernels/tiles.h"

namespace convgrad::cpu {

struct Target {
  static constexpr int64_t kLine = 64;  // bytes of a cache line

  TileShape tiles{};
  Budget cache;
  Costs costs;
  bool winograd_allowed = false;
  int64_t threads = 1;  // that share out the items, where no digits depend on their number

  // The vectors of a tile that brings the fewest bytes from L2 for each of its multiply-adds, where `rows` rows
  // are to be covered: a step reads B's vectors and the cache lines of a column of A. At least two, because a
  // tile of one vector loads a number of A for every multiply-add.
  int64_t tile_vecs(int64_t rows) const {
    int64_t best = 2;
    for (int64_t vecs = best + 1; vecs <= kMaxVecs; ++vecs)
      if (traffic(vecs, rows) < traffic(best, rows)) best = vecs;
    return best;
  }

  // Whether places at a distance of `step` elements, each of them `width` bytes wide, push each other out of L1d. It finds
  // a cache line by the address modulo 4096 bytes, and as many lines of one residue have room as it has times 4096 bytes.
  // These may take half of them.
  bool is_crowded(int64_t places, int64_t step, int64_t width = kLine) const {
    constexpr int64_t kModulus = 4096;
    const int64_t bytes = step % kModulus * tiles.sum_bytes;
    return product(places, std::max(width, std::gcd(bytes, kModulus))) > cache.l1d / 2;
  }

  // Whether this many elements are more than L2 holds.
  bool exceeds_l2(int64_t elements) const { return product(elements, tiles.sum_bytes) > cache.l2; }

  // Whether steps of this distance push what a tile has prefetched out of L1d before it is read.
  bool outrun_prefetch(int64_t step) const { return is_crowded(kStepsAhead, step); }

 private:
  double traffic(int64_t vecs, int64_t rows) const {
    const int64_t most = tiles.max_rows(vecs), of_tile = ceil_div(rows, ceil_div(rows, most));
    const int64_t a = ceil_div(of_tile * tiles.sum_bytes, kLine) * kLine;
    return static_cast<double>(vecs * tiles.vector_bytes() + a) /
           static_cast<double>(of_tile * vecs);
  }
};

}  // namespace convgrad::cpu
