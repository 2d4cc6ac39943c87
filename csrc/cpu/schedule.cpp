#include "cpu/schedule.h"

#include <algorithm>

namespace convgrad::cpu {
namespace {

constexpr int64_t kNarrow = 5;

struct Segment {
  Range pixels, taps;
};

// Cuts a stretch of an axis where the set of taps changes: the borders, and the interior where all
// taps meet. Taps in the padding then cost nothing.
std::vector<Segment> segments_of(const Walk& walk, Range pixels) {
  std::vector<Segment> segments;
  for (int64_t d : pixels) {
    const Range taps = walk.taps_of(d);
    const bool same = !segments.empty() && segments.back().taps.lo == taps.lo &&
                      segments.back().taps.hi == taps.hi;
    if (same)
      segments.back().pixels.hi = d + 1;
    else
      segments.push_back({{d, d + 1}, taps});
  }
  return segments;
}

template <typename T>
Part part_of(const Gather<T>& g, const PanelOrder& order, const SourceLayout& from, Range taps_h,
             Range taps_w) {
  Part part;
  const auto add = [&](int64_t c, int64_t t_h, int64_t t_w) {
    part.runs.push_back({c * from.c + from.t_h[t_h] + from.t_w[t_w],
                         c * order.c + t_h * order.t_h + t_w * order.t_w});
  };
  if (g.channels_inside()) {
    part.runs_per_channel = 0, part.length = g.C, part.a_step = from.c, part.b_step = order.c;
    for (int64_t t_h : taps_h)
      for (int64_t t_w : taps_w) add(0, t_h, t_w);
  } else {
    part.runs_per_channel = taps_w.size() > 0 ? taps_h.size() : 0, part.length = taps_w.size();
    part.a_step = g.w.tap_step * g.source.w, part.b_step = order.t_w;
    for (int64_t c : Range{0, g.C})
      for (int64_t i : Range{0, part.runs_per_channel}) add(c, taps_h.lo + i, taps_w.lo);
  }
  return part;
}

}  // namespace

template <typename T>
Schedule::Schedule(const Gather<T>& g, const PanelOrder& order, const SourceLayout& from,
                   const Band& band, int64_t max_rows) {
  const int64_t to_down = g.h.pixel_step * g.destination.h;
  const int64_t to_right = g.w.pixel_step * g.destination.w;
  for (const Segment& h : segments_of(g.h, band.ys))
    for (const Segment& w : segments_of(g.w, band.xs)) {
      const Line corner{
          h.pixels.lo * from.down + w.pixels.lo * from.right,
          g.h.pixel(h.pixels.lo) * g.destination.h + g.w.pixel(w.pixels.lo) * g.destination.w,
          from.right,
          to_right,
          0,
          0,
          static_cast<int64_t>(parts.size())};
      parts.push_back(part_of(g, order, from, h.taps, w.taps));
      add_rectangle(corner, h.pixels, w.pixels, from.down, to_down, max_rows);
    }
}

// Along the rows, or both sides in one where the rectangle lies in memory without a gap. Down a column
// only where the rows are too short to keep the multipliers busy, for each of its pixels is in a cache
// line of its own.
void Schedule::add_rectangle(Line line, Range ys, Range xs, int64_t down, int64_t to_down,
                             int64_t max_rows) {
  int64_t count = ys.size(), next = down, to_next = to_down;
  line.rows = xs.size();
  if (down == line.row_stride * xs.size() && to_down == line.destination_stride * xs.size()) {
    line.rows *= ys.size(), count = 1;
  } else if (xs.size() < kNarrow && ys.size() > xs.size()) {
    std::swap(line.row_stride, next), std::swap(line.destination_stride, to_next);
    line.rows = ys.size(), count = xs.size();
  }
  for (int64_t i = 0; i < count; ++i, line.source += next, line.destination += to_next)
    add_cut(line, max_rows);
}

void Schedule::add_cut(Line line, int64_t max_rows) {
  const int64_t size = Blocks::covering(line.rows, max_rows).size;
  for (int64_t left = line.rows; left > 0; left -= line.rows) {
    line.rows = std::min(size, left);
    line.first_pixel = lines.empty() ? 0 : lines.back().first_pixel + lines.back().rows;
    lines.push_back(line);
    line.source += line.rows * line.row_stride;
    line.destination += line.rows * line.destination_stride;
  }
}

template Schedule::Schedule(const Gather<float>&, const PanelOrder&, const SourceLayout&,
                            const Band&, int64_t);
template Schedule::Schedule(const Gather<double>&, const PanelOrder&, const SourceLayout&,
                            const Band&, int64_t);

}  // namespace convgrad::cpu
