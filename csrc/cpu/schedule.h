// Which tiles cover a destination, and what each of them sums over.
#pragma once

#include <algorithm>
#include <vector>

#include "conv_shape.h"
#include "cpu/tile.h"
#include "cpu/views.h"

namespace convgrad::cpu {

// One gathering pass over one phase of its destination. The lanes are the destination's channels, M
// of them in each group; the sum runs over the source's channels, C in each group, and over the taps.
template <typename T>
struct Gather {
  Walk h, w;
  int64_t N, groups, M, C;
  Images<const T> source;
  Images<T> destination;
  Images<const T> weight;  // strides of (lane, channel, k_h, k_w)
  int64_t weight_of_group;
  const T* bias;
  int64_t bias_stride;
  bool filters_are_lanes;  // in forward; in grad_input the sum runs over them

  int64_t taps() const { return product(h.T, w.T); }

  // The tile's runs go along the longer one of channels and horizontal taps.
  bool channels_inside() const { return C >= w.T; }
};

// A panel holds its vectors in the order in which tiles read them: from one channel or tap to the next,
// in elements.
struct PanelOrder {
  int64_t c, t_h, t_w, size;

  template <typename T>
  static PanelOrder of(const Gather<T>& g, int64_t lanes) {
    if (!g.channels_inside())
      return {product(g.taps(), lanes), g.w.T * lanes, lanes, product(g.C, g.taps(), lanes)};
    // A vector more for each tap: at a multiple of a page, taps would meet in one set of the cache.
    const int64_t tap = product(g.C + 1, lanes);
    return {lanes, product(g.w.T, tap), tap, product(g.taps(), tap)};
  }
};

// A rectangle of destination pixels.
struct Band {
  Range ys, xs;
  int64_t pixels() const { return ys.size() * xs.size(); }
};

// Where the source's pixels lie for the tiles of a band: in the tensor itself, or in a strip.
struct SourceLayout {
  int64_t c, down, right;         // from channel to channel, from destination pixel to pixel
  std::vector<int64_t> t_h, t_w;  // where each tap reads for destination pixel 0
};

template <typename T>
SourceLayout layout_of_tensor(const Walk& h, const Walk& w, const Images<const T>& source) {
  SourceLayout layout{source.c, place(h.step, source.h), place(w.step, source.w), {}, {}};
  for (int64_t t : Range{0, h.T}) layout.t_h.push_back(place(h.source(0, t), source.h));
  for (int64_t t : Range{0, w.T}) layout.t_w.push_back(place(w.source(0, t), source.w));
  return layout;
}

// Pixels that lie in a line and meet the same taps: the rows of one tile.
struct Line {
  int64_t source, destination;  // where its first pixel lies, for tap 0
  int64_t row_stride, destination_stride;
  int64_t rows;
  int64_t first_pixel;  // how many pixels the lines before it have
};

// Pixels that meet the same taps, in lines of equal length, each a tile or several.
struct Rectangle {
  Line line;              // the first one, whole
  int64_t count;          // of lines
  int64_t next, to_next;  // from line to line of the source, of the destination
  int64_t tile_rows;      // the most of a tile

  template <typename Visit>
  void for_each_line(const Visit& visit) const {
    Line piece = line;
    for (int64_t i : Range{0, count}) {
      piece.source = place(1, line.source, i, next);
      piece.destination = place(1, line.destination, i, to_next);
      for (int64_t left = line.rows; left > 0; left -= piece.rows) {
        piece.rows = std::min(tile_rows, left);
        visit(piece);
        piece.source = place(1, piece.source, piece.rows, piece.row_stride);
        piece.destination = place(1, piece.destination, piece.rows, piece.destination_stride);
        piece.first_pixel += piece.rows;
      }
    }
  }
};

// A band cut into rectangles where the set of taps changes: the borders, and the interior where all
// taps meet. Taps in the padding then cost nothing. Rectangles and lines are made when they are visited
// and never listed: under a large kernel there can be as many as pixels.
class Schedule {
 public:
  template <typename T>
  Schedule(const Gather<T>& g, const SourceLayout& from, const Band& band, int64_t max_rows)
      : rows(segments_of(g.h, band.ys)),
        columns(segments_of(g.w, band.xs)),
        band(band),
        down(from.down),
        right(from.right),
        to_down(place(g.h.pixel_step, g.destination.h)),
        to_right(place(g.w.pixel_step, g.destination.w)),
        origin(place(g.h.first_pixel, g.destination.h, g.w.first_pixel, g.destination.w)),
        max_rows(max_rows) {}

  template <typename Visit>
  void for_each_rectangle(const Visit& visit) const {
    for (const Segment& column : columns)
      for (const Segment& row : rows) visit(rectangle(row, column), row.taps, column.taps);
  }

 private:
  // Pixels next to each other on one axis that meet the same taps.
  struct Segment {
    Range pixels, taps;
  };

  static constexpr int64_t kNarrow = 5;

  // Along the rows, or both sides in one where the rectangle lies in memory without a gap. Down a column
  // only where the rows are too short to keep the multipliers busy, for each of its pixels is in a cache
  // line of its own.
  Rectangle rectangle(const Segment& row, const Segment& column) const {
    const Range ys = row.pixels, xs = column.pixels;
    Rectangle found{{place(ys.lo, down, xs.lo, right),
                     origin + place(ys.lo, to_down, xs.lo, to_right), right, to_right, xs.size(),
                     (xs.lo - band.xs.lo) * band.ys.size() + (ys.lo - band.ys.lo) * xs.size()},
                    ys.size(),
                    down,
                    to_down,
                    max_rows};
    Line& line = found.line;
    if (down == place(xs.size(), right) && to_down == place(xs.size(), to_right)) {
      line.rows *= ys.size(), found.count = 1;
    } else if (xs.size() < kNarrow && ys.size() > xs.size()) {
      std::swap(line.row_stride, found.next);
      std::swap(line.destination_stride, found.to_next);
      std::swap(line.rows, found.count);
    }
    if (line.rows > max_rows) found.tile_rows = Blocks::covering(line.rows, max_rows).size;
    return found;
  }

  static std::vector<Segment> segments_of(const Walk& walk, Range pixels) {
    std::vector<Segment> segments;
    for (int64_t d : pixels) {
      const Range taps = walk.taps_of(d);
      if (!segments.empty() && segments.back().taps == taps)
        segments.back().pixels.hi = d + 1;
      else
        segments.push_back({{d, d + 1}, taps});
    }
    return segments;
  }

  std::vector<Segment> rows, columns;
  Band band;
  int64_t down, right, to_down, to_right;  // from pixel to pixel of the source, of the destination
  int64_t origin;                          // where destination pixel (0, 0) lies
  int64_t max_rows;
};

}  // namespace convgrad::cpu
