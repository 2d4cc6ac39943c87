// The pixels of a pass whose destination pixels meet one tap each, one after the other.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/common/gather.h"

namespace convgrad::cpu {

// Pixels of one destination row that follow each other in a slice.
struct Segment {
  int64_t n, y;  // image and row
  Range xs;
  int64_t at;  // pixels of the slice before them
};

// The pixels of a segment that have a source. The others meet padding.
struct Inside {
  int64_t before, count;  // pixels before the first one; pixels
  int64_t source;         // of the first one, in channel 0, in elements
};

// The destination's pixels in reading order, through all images. Images without a gap between their
// rows, in source and destination, are one long row each.
class PixelRows {
 public:
  explicit PixelRows(const Gather& g)
      : g(g), inside_h(inside(g.h)), inside_w(inside(g.w)), height(g.h.D), width(g.w.D) {
    const bool same = g.h.step == 1 && g.w.step == 1 && g.h.pixel_step == 1 &&
                      g.w.pixel_step == 1 && inside_h.size() == g.h.S && inside_w.size() == g.w.S &&
                      inside_h.size() == g.h.D && inside_w.size() == g.w.D;
    if (same && g.source.w == 1 && g.source.h == width && g.destination.w == 1 &&
        g.destination.h == width) {
      width *= height, height = 1;
      inside_h = {0, 1}, inside_w = {0, width};
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

  Inside inside_of(const Segment& s) const {
    const Range xs = Range::within(std::max(s.xs.lo, inside_w.lo), inside_w.hi, s.xs.hi);
    if (s.y < inside_h.lo || s.y >= inside_h.hi || xs.size() == 0) return {0, 0, 0};
    return {xs.lo - s.xs.lo, xs.size(),
            s.n * g.source.n + g.h.source(s.y, 0) * g.source.h + g.w.source(xs.lo, 0) * g.source.w};
  }

  // From pixel to pixel of a segment, in elements.
  int64_t source_step() const { return place(g.w.step, g.source.w); }
  int64_t destination_step() const { return place(g.w.pixel_step, g.destination.w); }

  // The place of the segment's first pixel, in channel 0, in elements.
  int64_t destination(const Segment& s) const {
    return s.n * g.destination.n + g.h.pixel(s.y) * g.destination.h +
           g.w.pixel(s.xs.lo) * g.destination.w;
  }

 private:
  // The destination pixels that meet the tap.
  static Range inside(const Walk& walk) {
    Range pixels{walk.D, walk.D};
    for (int64_t d : Range{0, walk.D})
      if (walk.taps_of(d).size() > 0) pixels = {std::min(pixels.lo, d), d + 1};
    return pixels;
  }

  const Gather& g;
  Range inside_h, inside_w;
  int64_t height, width;
};

}  // namespace convgrad::cpu
