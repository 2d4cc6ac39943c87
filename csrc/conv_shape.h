// The extents of one convolution: built once, checked once (conv_checks.h), passed whole.
#pragma once

#include <cstdint>

#include "geometry/axis.h"

namespace convgrad {

struct ConvShape {
  int64_t N, groups, C_in, C_out;  // channels of all groups
  Axis h, w;

  constexpr int64_t C_in_per_group() const { return C_in / groups; }
  constexpr int64_t C_out_per_group() const { return C_out / groups; }
  constexpr int64_t taps() const { return product(h.K, w.K); }
  constexpr int64_t output_pixels() const { return product(h.O, w.O); }

  // Channels are numbered over all groups; these are the ones that share a group with a channel.
  constexpr Range inputs_of(int64_t c_out) const {
    const int64_t group = c_out / C_out_per_group();
    return {group * C_in_per_group(), (group + 1) * C_in_per_group()};
  }
  constexpr Range outputs_of(int64_t c_in) const {
    const int64_t group = c_in / C_in_per_group();
    return {group * C_out_per_group(), (group + 1) * C_out_per_group()};
  }
};

}  // namespace convgrad
