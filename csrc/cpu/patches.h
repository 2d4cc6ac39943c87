// The destination of a gathering pass in patches of 2x2 pixels, and the windows of 4x4 sources that each
// of them reads.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/schedule.h"
#include "cpu/tile.h"

namespace convgrad::cpu {

constexpr int64_t kWindow = 16;  // numbers in a window

// Patches that follow each other along a row, from patch (y, x) of an image on.
struct PatchRow {
  int64_t n, y, x, count;
  int64_t at;       // how many patches come before
  bool below_last;  // right under the row before it
};

// The patches in reading order, through all images.
class PatchGrid {
 public:
  template <typename T>
  explicit PatchGrid(const Gather<T>& g) : h(g.h), w(g.w), images(g.N) {}

  int64_t count() const { return images * h.size() * w.size(); }
  int64_t longest_row(int64_t patches) const { return std::min(w.per_phase, patches); }

  std::vector<PatchRow> rows(Range patches) const {
    std::vector<PatchRow> found;
    for (int64_t p = patches.lo; p < patches.hi; p += found.back().count) {
      const int64_t row = p / w.size(), x = p % w.size();
      const int64_t count = std::min(w.left_in_phase(x), patches.hi - p);
      PatchRow next{row / h.size(), row % h.size(), x, count, p - patches.lo, false};
      if (!found.empty()) next.below_last = is_below(found.back(), next);
      found.push_back(next);
    }
    return found;
  }

  const PatchAxis h, w;

 private:
  bool is_below(const PatchRow& last, const PatchRow& row) const {
    return row.n == last.n && row.x == last.x && row.count == last.count && row.y == last.y + 1 &&
           h.left_in_phase(row.y) < h.per_phase;
  }

  int64_t images;
};

// The rows of sources of one channel, with zeros for the padding, even columns apart from odd ones; and
// the windows made of them.
template <typename T>
class Windows {
 public:
  Windows(const Tiles<T>& tiles, const PatchGrid& grid, const Images<const T>& source,
          int64_t patches)
      : tiles(tiles),
        grid(grid),
        source(source),
        half(Blocks::covering(grid.longest_row(patches) + 1, tiles.lanes).count * tiles.lanes +
             tiles.lanes) {}

  // Elements of the four rows that are kept at a time.
  int64_t buffer_size() const { return 4 * 2 * half; }

  // Number i of the window of patch p goes to windows[i*window_stride + p]. Up to a vector of what
  // follows the last patch is overwritten.
  void make(const std::vector<PatchRow>& rows, int64_t channel, T* windows, int64_t window_stride,
            T* buffer) const {
    int64_t top = 0;
    for (const PatchRow& row : rows) {
      // The two lower rows of the patches above are the two upper ones of these.
      if (row.below_last) top += 2;
      for (int64_t j : Range{row.below_last ? 2 : 0, 4})
        load(row, j, channel, buffer + (top + j) % 4 * 2 * half);
      SourceArgs<T> args{{}, half, windows + row.at, window_stride, row.count};
      for (int64_t j : Range{0, 4}) args.rows[j] = buffer + (top + j) % 4 * 2 * half;
      tiles.window_of_sources(args);
    }
  }

 private:
  void load(const PatchRow& row, int64_t j, int64_t channel, T* to) const {
    const int64_t y = grid.h.source(row.y, j);
    const Range inside = grid.w.sources_inside(row.x, row.count);
    const auto place = [&](int64_t i) { return to + i % 2 * half + i / 2; };
    if (y < 0 || y >= grid.h.walk.S || inside.size() == 0) {
      std::fill_n(place(0), row.count + 1, T(0));
      std::fill_n(place(1), row.count + 1, T(0));
      return;
    }
    for (int64_t i : Range{0, inside.lo}) *place(i) = T(0);
    for (int64_t i : Range{inside.hi, 2 * row.count + 2}) *place(i) = T(0);
    const T* from =
        source.at(row.n, channel) + y * source.h + grid.w.source(row.x, inside.lo) * source.w;
    tiles.split_row(
        {from, grid.w.distance * source.w, inside.size(), place(inside.lo), place(inside.lo + 1)});
  }

  const Tiles<T>& tiles;
  const PatchGrid& grid;
  const Images<const T>& source;
  int64_t half;  // of a row: its even or its odd columns
};

}  // namespace convgrad::cpu
