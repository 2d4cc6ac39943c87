// Which tiles cover a destination, and what each of them sums over.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "conv_shape.h"
#include "cpu/tile.h"
#include "cpu/views.h"

namespace convgrad::cpu {

// How long a sum of so many products runs in a register before it is added to a second one. Of n
// products in chains of L, rounding adds up as n/L large errors of the second sum and n small ones of
// the chains, L/n as large: least together where L goes as n^(2/3).
inline int64_t longest_sum(int64_t products) {
  const double n = static_cast<double>(products);
  return std::clamp<int64_t>(static_cast<int64_t>(std::cbrt(n * n)), 192, 1152);
}

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

  int64_t taps() const { return h.T * w.T; }

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
      return {g.taps() * lanes, g.w.T * lanes, lanes, g.C * g.taps() * lanes};
    // A vector more for each tap: at a multiple of a page, taps would meet in one set of the cache.
    const int64_t tap = (g.C + 1) * lanes;
    return {lanes, g.w.T * tap, tap, g.taps() * tap};
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
  SourceLayout layout{source.c, h.step * source.h, w.step * source.w, {}, {}};
  for (int64_t t : Range{0, h.T}) layout.t_h.push_back(h.source(0, t) * source.h);
  for (int64_t t : Range{0, w.T}) layout.t_w.push_back(w.source(0, t) * source.w);
  return layout;
}

// Pixels that lie in a line and meet the same taps: the rows of one tile.
struct Line {
  int64_t source, destination;  // where its first pixel lies, for tap 0
  int64_t row_stride, destination_stride;
  int64_t rows;
  int64_t first_pixel;  // how many pixels the lines before it have
  int64_t part;         // whose taps
};

// What all tiles of a rectangle sum over.
struct Part {
  std::vector<Run> runs;
  int64_t runs_per_channel;  // 0 if the runs go along the channels
  int64_t length, a_step, b_step;
};

// All lines of a band, each no longer than a tile has rows.
class Schedule {
 public:
  template <typename T>
  Schedule(const Gather<T>& g, const PanelOrder& order, const SourceLayout& from, const Band& band,
           int64_t max_rows);

  std::vector<Part> parts;
  std::vector<Line> lines;

 private:
  void add_rectangle(Line line, Range ys, Range xs, int64_t down, int64_t to_down,
                     int64_t max_rows);
  void add_cut(Line line, int64_t max_rows);
};

}  // namespace convgrad::cpu
