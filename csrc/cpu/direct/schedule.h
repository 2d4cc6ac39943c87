// The tiles that cover a band of the destination, and the taps that each of them sums over.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "cpu/common/blocks.h"
#include "cpu/common/gather.h"
#include "cpu/common/layout.h"
#include "geometry/tap_segments.h"

namespace convgrad::cpu {

// Pixels in a line that meet the same taps: the rows of one tile. Distances are in elements.
struct Line {
  int64_t source;                          // of the first pixel, under tap 0
  int64_t destination;                     // the place of the first pixel
  int64_t row_stride, destination_stride;  // from pixel to pixel
  int64_t rows;                            // pixels
  int64_t first_pixel;                     // pixels of the lines before it

  // To the line that follows `lines` of this length.
  void advance(int64_t lines) {
    source = place(1, source, lines * rows, row_stride);
    destination = place(1, destination, lines * rows, destination_stride);
    first_pixel += lines * rows;
  }
};

// Pixels that meet the same taps, in lines of equal length, each a tile or several.
struct Rectangle {
  Line line;              // the first one, whole
  int64_t count;          // of lines
  int64_t next, to_next;  // from line to line of the source, of the destination
  int64_t max_rows;       // of a tile; those of a line have nearly equal numbers

  bool is_one_pixel() const { return count == 1 && line.rows == 1; }

  // visit(line): each of them, whole.
  template <typename Visit>
  void for_each_line(const Visit& visit) const {
    for (int64_t i : Range{0, count}) {
      Line whole = line;
      whole.source = place(1, line.source, i, next);
      whole.destination = place(1, line.destination, i, to_next);
      whole.first_pixel += i * line.rows;
      visit(whole);
    }
  }

  // visit(piece, tiles): the rows of the first one of some tiles that follow each other and have as many rows.
  template <typename Visit>
  void for_each_tiles(const Visit& visit) const {
    const int64_t tiles = ceil_div(line.rows, max_rows);
    const int64_t fewer = line.rows / tiles, larger = line.rows % tiles;
    for_each_line([&](Line piece) {
      for (const auto& [rows, some] : {std::pair{fewer + 1, larger}, {fewer, tiles - larger}}) {
        piece.rows = rows;
        if (some > 0) visit(piece, some);
        piece.advance(some);
      }
    });
  }
};

// A band cut into rectangles where the set of taps changes: the borders, and the interior where all
// taps meet. Taps in the padding then cost nothing. Rectangles and lines are made when they are visited
// and never listed, because under a large kernel every pixel can be one.
class Schedule {
 public:
  Schedule(const Gather& g, const SourceLayout& from, const Band& band, int64_t max_rows)
      : g(g),
        rows(TapSegment::of(g.h, band.ys)),
        columns(TapSegment::of(g.w, band.xs)),
        band(band),
        down(from.down),
        right(from.right),
        max_rows(max_rows) {}

  template <typename Visit>
  void for_each_rectangle(const Visit& visit) const {
    for (const TapSegment& column : columns)
      for (const TapSegment& row : rows) visit(rectangle(row, column), row.taps, column.taps);
  }

 private:
  // From pixel to pixel of the destination.
  int64_t to_down() const { return place(g.h.pixel_step, g.destination.h); }
  int64_t to_right() const { return place(g.w.pixel_step, g.destination.w); }

  // Lines go along the rows; where the rectangle is stored without a gap, it is one line. They go down the
  // columns only where the rows are too short to keep the multipliers busy, because each pixel of a column is
  // in a cache line of its own.
  Rectangle rectangle(const TapSegment& row, const TapSegment& column) const {
    constexpr int64_t kShortRow = 5;
    const Range ys = row.pixels, xs = column.pixels;
    Rectangle found{first_line(ys, xs), ys.size(), down, to_down(), max_rows};
    Line& line = found.line;
    if (down == place(xs.size(), right) && to_down() == place(xs.size(), to_right())) {
      line.rows *= ys.size(), found.count = 1;
    } else if (xs.size() < kShortRow && ys.size() > xs.size()) {
      std::swap(line.row_stride, found.next);
      std::swap(line.destination_stride, found.to_next);
      std::swap(line.rows, found.count);
    }
    return found;
  }

  Line first_line(Range ys, Range xs) const {
    const int64_t origin =
        place(g.h.first_pixel, g.destination.h, g.w.first_pixel, g.destination.w);
    Line line{};
    line.source = place(ys.lo, down, xs.lo, right);
    line.destination = origin + place(ys.lo, to_down(), xs.lo, to_right());
    line.row_stride = right;
    line.destination_stride = to_right();
    line.rows = xs.size();
    line.first_pixel = (xs.lo - band.xs.lo) * band.ys.size() + (ys.lo - band.ys.lo) * xs.size();
    return line;
  }

  const Gather& g;
  std::vector<TapSegment> rows, columns;
  Band band;
  int64_t down, right;  // from pixel to pixel of the source
  int64_t max_rows;
};

}  // namespace convgrad::cpu
