// The pixels of a pass whose destination pixels meet one tap each, one after the other.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/schedule.h"

namespace convgrad::cpu {

// Pixels x of a destination row that follow each other in a strip from `at` on.
struct Segment {
  int64_t n, y;
  Range xs;
  int64_t at;
};

// Pixels of the source, and how many of a segment's pixels come before them.
template <typename T>
struct Source {
  const T* from;
  int64_t before, count;
};

// The destination's pixels in reading order, through all images. Images without a gap between their
// rows, in source and destination, are one long row each.
template <typename T>
class PixelRows {
 public:
  explicit PixelRows(const Gather<T>& g)
      : g(g), seen_h(seen(g.h)), seen_w(seen(g.w)), height(g.h.D), width(g.w.D) {
    const bool same = g.h.step == 1 && g.w.step == 1 && g.h.pixel_step == 1 &&
                      g.w.pixel_step == 1 && seen_h.size() == g.h.S && seen_w.size() == g.w.S &&
                      seen_h.size() == g.h.D && seen_w.size() == g.w.D;
    if (same && g.source.w == 1 && g.source.h == width && g.destination.w == 1 &&
        g.destination.h == width) {
      width *= height, height = 1;
      seen_h = {0, 1}, seen_w = {0, width};
    }
  }

  int64_t count() const { return g.N * height * width; }

  std::vector<Segment> segments(Range pixels) const {
    std::vector<Segment> found;
    for (int64_t p = pixels.lo; p < pixels.hi;) {
      const int64_t row = p / width, x = p % width;
      const int64_t end = std::min(width, x + pixels.hi - p);
      found.push_back({row / height, row % height, {x, end}, p - pixels.lo});
      p += end - x;
    }
    return found;
  }

  // What a segment reads of channel 0; nothing where it lies in the padding.
  Source<T> source(const Segment& s) const {
    const Range xs = Range::within(std::max(s.xs.lo, seen_w.lo), seen_w.hi, s.xs.hi);
    if (s.y < seen_h.lo || s.y >= seen_h.hi || xs.size() == 0) return {nullptr, 0, 0};
    return {
        g.source.at(s.n, 0) + g.h.source(s.y, 0) * g.source.h + g.w.source(xs.lo, 0) * g.source.w,
        xs.lo - s.xs.lo, xs.size()};
  }
  int64_t source_step() const { return place(g.w.step, g.source.w); }

  // Whether the pixels of a segment follow each other in the destination.
  bool is_gapless() const { return place(g.w.pixel_step, g.destination.w) == 1; }

  T* destination(const Segment& s, int64_t channel) const {
    return g.destination.at(s.n, channel) + g.h.pixel(s.y) * g.destination.h +
           g.w.pixel(s.xs.lo) * g.destination.w;
  }

  // Sums and bias; where a pixel lies in the padding the sum is empty, whatever `sums` has there.
  void copy_out(const Segment& s, int64_t channel, T bias, const T* sums) const {
    T* to = destination(s, channel);
    const int64_t step = place(g.w.pixel_step, g.destination.w);
    const Source<T> seen = source(s);
    const int64_t after = seen.before + seen.count;
    for (int64_t j = 0; j < seen.before; ++j) to[j * step] = bias;
    if (step == 1)
      for (int64_t j = seen.before; j < after; ++j) to[j] = sums[j] + bias;
    else
      for (int64_t j = seen.before; j < after; ++j) to[j * step] = sums[j] + bias;
    for (int64_t j = after; j < s.xs.size(); ++j) to[j * step] = bias;
  }

 private:
  // The destination pixels that meet the tap.
  static Range seen(const Walk& walk) {
    Range pixels{walk.D, walk.D};
    for (int64_t d : Range{0, walk.D})
      if (walk.taps_of(d).size() > 0) pixels = {std::min(pixels.lo, d), d + 1};
    return pixels;
  }

  const Gather<T>& g;
  Range seen_h, seen_w;
  int64_t height, width;
};

}  // namespace convgrad::cpu
