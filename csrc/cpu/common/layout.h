// The places from which tiles read the pixels of the source: in the tensor itself, or in a strip.
#pragma once

#include <vector>

#include "cpu/common/views.h"
#include "geometry/axis.h"

namespace convgrad::cpu {

// A rectangle of destination pixels.
struct Band {
  Range ys, xs;
  int64_t pixels() const { return ys.size() * xs.size(); }
};

// Distances in elements.
struct SourceLayout {
  int64_t c;                      // from channel to channel
  int64_t down, right;            // from destination pixel to destination pixel
  std::vector<int64_t> t_h, t_w;  // the source of each tap for destination pixel 0

  static SourceLayout of_tensor(const Walk& h, const Walk& w, const Strides& source) {
    SourceLayout layout{};
    layout.c = source.c;
    layout.down = place(h.step, source.h);
    layout.right = place(w.step, source.w);
    for (int64_t t : Range{0, h.T}) layout.t_h.push_back(place(h.source(0, t), source.h));
    for (int64_t t : Range{0, w.T}) layout.t_w.push_back(place(w.source(0, t), source.w));
    return layout;
  }
};

}  // namespace convgrad::cpu
