// The order of a strip's pixels. Integers only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "geometry/axis.h"

namespace convgrad {

// A range of source pixels sorted by phase, the order of a strip. For any step of a walk, the position moves by
// one from one destination pixel to the next.
struct StripOrder {
  Range sources;
  int64_t step;        // of the walk, in sources: the number of phases
  int64_t phase_size;  // positions of a phase

  static StripOrder of(const Walk& walk, Range destination) {
    return of_sources(walk.sources_of(destination), walk.step);
  }

  // With places for the sources in the padding.
  static StripOrder with_padding(const Walk& walk, Range destination) {
    return of_sources(walk.padded_sources_of(destination), walk.step);
  }

  // Positions for `sources` sources; the last one of a phase that is one short stays empty.
  static constexpr int64_t size_of(int64_t sources, int64_t step) {
    return product(std::min(step, sources), ceil_div(sources, step));
  }
  constexpr int64_t size() const { return size_of(sources.size(), step); }
  constexpr int64_t position(int64_t s) const {
    const int64_t quotient = floor_div(s - sources.lo, step);
    return (s - sources.lo - quotient * step) * phase_size + quotient;
  }
  constexpr int64_t first_source(int64_t phase) const { return sources.lo + phase; }
  constexpr int64_t sources_in(int64_t phase) const {
    return std::max<int64_t>(0, ceil_div(sources.size() - phase, step));
  }

  // The positions in a phase whose sources are inside an image of S pixels.
  constexpr Range inside(int64_t phase, int64_t S) const {
    const int64_t first = first_source(phase);
    return Range::within(ceil_div(-first, step), ceil_div(S - first, step), sources_in(phase));
  }

  // The phases that some tap of the walk reads.
  std::vector<int64_t> phases_read(const Walk& walk) const {
    std::vector<int64_t> phases;
    for (int64_t t : Range{0, walk.T}) {
      const int64_t from_lo = walk.source(0, t) - sources.lo;
      phases.push_back(from_lo - floor_div(from_lo, step) * step);
    }
    std::sort(phases.begin(), phases.end());
    phases.erase(std::unique(phases.begin(), phases.end()), phases.end());
    return phases;
  }

 private:
  static StripOrder of_sources(Range sources, int64_t step) {
    return {sources, step, ceil_div(sources.size(), step)};
  }
};

}  // namespace convgrad
