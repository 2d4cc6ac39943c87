// The numbers that a plan counts with, beside those of the convolution.
#pragma once

#include "cpu/budget.h"
#include "cpu/costs.h"
#include "cpu/kernels/tiles.h"

namespace convgrad::cpu {

struct Target {
  TileShape tiles{};
  Budget cache;
  Costs costs;
  bool winograd_allowed = false;

  // The vectors of a tile that brings the fewest bytes from L2 for each of its multiply-adds, where `rows` rows
  // are to be covered: a step reads B's vectors and the cache lines of a column of A. At least two, because a
  // tile of one vector loads a number of A for every multiply-add.
  int64_t tile_vecs(int64_t rows) const {
    int64_t best = 2;
    for (int64_t vecs = best + 1; vecs <= kMaxVecs; ++vecs)
      if (traffic(vecs, rows) < traffic(best, rows)) best = vecs;
    return best;
  }

 private:
  double traffic(int64_t vecs, int64_t rows) const {
    constexpr int64_t kLine = 64;
    const int64_t most = tiles.max_rows(vecs), of_tile = ceil_div(rows, ceil_div(rows, most));
    const int64_t a = ceil_div(of_tile * tiles.sum_bytes, kLine) * kLine;
    return static_cast<double>(vecs * tiles.vector_bytes() + a) /
           static_cast<double>(of_tile * vecs);
  }
};

}  // namespace convgrad::cpu
