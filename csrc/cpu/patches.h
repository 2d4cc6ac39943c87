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
  PatchGrid(const Walk& h, const Walk& w, int64_t images) : h(h), w(w), images(images) {}

  static bool fits(const Walk& h, const Walk& w) {
    return PatchAxis::fits(h) && PatchAxis::fits(w);
  }

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

  // What it takes to make the windows of one channel, in vectors of multiply-adds, as measured: rows
  // are copied, and number by number if their pixels lie apart.
  int64_t cost_of_windows(int64_t lanes) const {
    const int64_t rows = images * h.size() * w.phases;
    const int64_t vectors = Blocks::covering(w.per_phase, lanes).count;
    return rows * (60 + 100 * vectors + (w.distance > 1 ? 8 * w.per_phase : 0));
  }

  const PatchAxis h, w;

 private:
  bool is_below(const PatchRow& last, const PatchRow& row) const {
    return row.n == last.n && row.x == last.x && row.count == last.count && row.y == last.y + 1 &&
           h.left_in_phase(row.y) < h.per_phase;
  }

  int64_t images;
};

// The sources of a row of patches: four rows of pixels, of which those in the padding are null.
template <typename T>
struct SourceRows {
  const T* rows[4];  // at the first pixel inside the image, in channel 0
  Range inside;      // of the 2*count + 2 pixels of a row
  int64_t count, at;
  bool below_last;
};

// The windows of sources. The rows of one channel are copied first, with zeros for the padding and with
// even columns apart from odd ones.
template <typename T>
class SourceWindows {
 public:
  SourceWindows(const Tiles<T>& tiles, const PatchGrid& grid, const Images<const T>& source,
                int64_t patches)
      : tiles(tiles),
        grid(grid),
        source(source),
        step(grid.w.distance * source.w),
        half(Blocks::covering(grid.longest_row(patches) + 1, tiles.lanes).count * tiles.lanes +
             tiles.lanes) {}

  // Elements that `make` needs at hand: four rows, and one of zeros.
  int64_t buffer_size() const { return 5 * 2 * half; }

  std::vector<SourceRows<T>> rows_of(const std::vector<PatchRow>& patch_rows) const {
    std::vector<SourceRows<T>> found;
    for (const PatchRow& row : patch_rows) {
      const Range inside = grid.w.sources_inside(row.x, row.count);
      SourceRows<T> next{{}, inside, row.count, row.at, row.below_last};
      for (int64_t j : Range{0, 4}) {
        const int64_t y = grid.h.source(row.y, j);
        const bool padding = y < 0 || y >= grid.h.walk.S || inside.size() == 0;
        next.rows[j] = padding ? nullptr
                               : source.at(row.n, 0) + y * source.h +
                                     grid.w.source(row.x, inside.lo) * source.w;
      }
      found.push_back(next);
    }
    return found;
  }

  // Number i of the window of patch p goes to windows[i*window_stride + p]. Up to a vector of what
  // follows the last patch is overwritten.
  void make(const std::vector<SourceRows<T>>& patch_rows, int64_t channel, T* windows,
            int64_t window_stride, T* buffer) const {
    T* const zeros = buffer + 4 * 2 * half;
    std::fill_n(zeros, 2 * half, T(0));
    uint64_t top = 0;
    for (const SourceRows<T>& rows : patch_rows) {
      SourceArgs<T> args{{}, half, windows + rows.at, window_stride, rows.count};
      // The two lower rows of the patches above are the two upper ones of these.
      if (rows.below_last) top += 2;
      for (uint64_t j = 0; j < 4; ++j) {
        T* const row = buffer + (top + j) % 4 * 2 * half;
        args.rows[j] = rows.rows[j] ? row : zeros;
        const bool there = rows.below_last && j < 2;
        if (rows.rows[j] && !there) load(rows, rows.rows[j] + channel * source.c, row);
      }
      tiles.window_of_sources(args);
    }
  }

 private:
  void load(const SourceRows<T>& rows, const T* from, T* to) const {
    const auto place = [&](uint64_t i) { return to + i % 2 * half + i / 2; };
    for (int64_t i : Range{0, rows.inside.lo}) *place(i) = T(0);
    for (int64_t i : Range{rows.inside.hi, 2 * rows.count + 2}) *place(i) = T(0);
    tiles.split_row(
        {from, step, rows.inside.size(), place(rows.inside.lo), place(rows.inside.lo + 1)});
  }

  const Tiles<T>& tiles;
  const PatchGrid& grid;
  const Images<const T>& source;
  int64_t step;  // from pixel to pixel of a patch
  int64_t half;  // of a row: its even or its odd columns
};

}  // namespace convgrad::cpu
