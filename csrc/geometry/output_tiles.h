// The output tiles of Winograd's form, along one axis. Integers only.
#pragma once

#include <algorithm>
#include <cstdint>

#include "geometry/axis.h"

namespace convgrad {

// A walk of step 1 and three taps, two destination pixels at a time: an output tile. The distance between its
// pixels is that of the taps, so that the tile reads four sources, each at that distance from the next. Tiles
// are numbered through the residue classes (phases) of that distance, one after the other:
//
//     destination pixel i of tile p:  d = phase + distance*(2*p' + i),      i in {0, 1}
//     source j of tile p:             s = nearest + phase + distance*(2*p' + j),     0 <= j < 4
//
// where p' counts within the phase. Pixel i meets source i + k at the k-th nearest of the taps. Every
// phase has as many tiles as the first; the last ones may be outside of the image, wholly or by half.
struct OutputTileAxis {
  Walk walk;
  int64_t distance;   // between the pixels of a tile, in destination pixels and in sources
  int64_t nearest;    // the nearest source of destination pixel 0
  int64_t phases;     // residue classes that have tiles
  int64_t per_phase;  // tiles of each

  static constexpr bool fits(const Walk& walk) { return walk.step == 1 && walk.T == 3; }

  static constexpr OutputTileAxis of(const Walk& walk) {
    const int64_t distance = walk.tap_step > 0 ? walk.tap_step : -walk.tap_step;
    return {.walk = walk,
            .distance = distance,
            .nearest = walk.source(0, nearest_tap_of(walk)),
            .phases = std::min(distance, walk.D),
            .per_phase = ceil_div(ceil_div(walk.D, distance), 2)};
  }

  constexpr int64_t size() const { return phases * per_phase; }
  constexpr int64_t nearest_tap() const { return nearest_tap_of(walk); }
  // Tiles of the same phase from tile p on.
  constexpr int64_t left_in_phase(int64_t p) const { return per_phase - p % per_phase; }

  constexpr int64_t destination(int64_t p, int64_t i) const {
    return p / per_phase + distance * (2 * (p % per_phase) + i);
  }
  constexpr int64_t source(int64_t p, int64_t j) const {
    return nearest + destination(p, 0) + distance * j;
  }
  // The sources inside the image, as a range of j that continues through `tiles` tiles from tile p on.
  constexpr Range sources_inside(int64_t p, int64_t tiles) const {
    const int64_t first = source(p, 0);
    return Range::within(ceil_div(-first, distance), ceil_div(walk.S - first, distance),
                         2 * tiles + 2);
  }
  // The number of destination pixels of `tiles` tiles from tile p on that are inside the image.
  constexpr int64_t pixels_inside(int64_t p, int64_t tiles) const {
    const int64_t left = ceil_div(walk.D - destination(p, 0), distance);
    return std::max<int64_t>(0, std::min(2 * tiles, left));
  }
  // From destination pixel to destination pixel in the image.
  constexpr int64_t pixel_step() const { return distance * walk.pixel_step; }

 private:
  static constexpr int64_t nearest_tap_of(const Walk& walk) {
    return walk.tap_step > 0 ? 0 : walk.T - 1;
  }
};

}  // namespace convgrad
