// The destination of a pass in output tiles of 2x2 pixels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "geometry/output_tiles.h"

namespace convgrad::cpu {

constexpr int64_t kNumbers = 16;  // of a transformed tile

// Output tiles that follow each other along a row, from tile (y, x) of an image on.
struct TileRow {
  int64_t n, y, x;  // image; row and column in output tiles
  int64_t count;    // of output tiles
  int64_t at;       // tiles before it
  bool below_last;  // whether it is right under the row before it
};

// The output tiles in reading order, through all images.
class OutputTileGrid {
 public:
  OutputTileGrid(const Walk& walk_h, const Walk& walk_w, int64_t images)
      : h(OutputTileAxis::of(walk_h)), w(OutputTileAxis::of(walk_w)), images(images) {}

  static bool fits(const Walk& h, const Walk& w) {
    return OutputTileAxis::fits(h) && OutputTileAxis::fits(w);
  }

  int64_t count() const { return images * h.size() * w.size(); }
  int64_t longest_row(int64_t tiles) const { return std::min(w.per_phase, tiles); }

  std::vector<TileRow> rows(Range tiles) const {
    std::vector<TileRow> found;
    for (int64_t p = tiles.lo; p < tiles.hi; p += found.back().count) {
      const int64_t row = p / w.size(), x = p % w.size();
      const int64_t count = std::min(w.left_in_phase(x), tiles.hi - p);
      TileRow next{row / h.size(), row % h.size(), x, count, p - tiles.lo, false};
      if (!found.empty()) next.below_last = is_below(found.back(), next);
      found.push_back(next);
    }
    return found;
  }

  const OutputTileAxis h, w;

 private:
  bool is_below(const TileRow& last, const TileRow& row) const {
    return row.n == last.n && row.x == last.x && row.count == last.count && row.y == last.y + 1 &&
           h.left_in_phase(row.y) < h.per_phase;
  }

  int64_t images;
};

}  // namespace convgrad::cpu
