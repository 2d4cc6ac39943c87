// forward and grad_input as one pass: both gather a destination pixel from source pixels.
#pragma once

#include <cstdint>

#include "conv_shape.h"
#include "cpu/common/chains.h"
#include "cpu/common/views.h"
#include "cpu/kernels/tiles.h"

namespace convgrad::cpu {

// The pixels that one channel of the destination has in a patch, where each counts as a channel: (c, h, w) is number
// (c*height + h)*width + w.
struct Patch {
  int64_t height, width;  // zero if each channel is one pixel
  int64_t down, right;    // from pixel to pixel of the destination, in elements

  int64_t size() const { return height * width; }
};

// A gathering pass over one phase of its destination, without data. In each group, M channels of the destination
// are sums over C channels of the source and over the taps.
struct Gather {
  Walk h, w;
  int64_t N, groups, M, C;      // M and C of one group
  Strides source, destination;  // of (n, c, h, w)
  Strides weight;               // of (channel of the destination, of the source, k_h, k_w)
  int64_t weight_of_group;      // from group to group of the weight, in elements
  bool filters_are_lanes;       // in forward; grad_input sums over the filters
  Patch patch;                  // of the destination

  int64_t taps() const { return product(h.T, w.T); }

  bool channels_inside() const { return runs_along_channels(C, w.T); }

  // Channels of the destination that are equally far apart, in elements.
  struct Channels {
    int64_t first, step, count;
  };
  // Those from channel m of a group on.
  Channels channels_from(int64_t m) const {
    if (patch.size() == 0) return {m * destination.c, destination.c, M - m};
    const int64_t pixel = m % patch.size(), row = pixel / patch.width, column = pixel % patch.width;
    return {m / patch.size() * destination.c + row * patch.down + column * patch.right, patch.right,
            patch.width - column};
  }
};

// Strides of the input or grad_input, of the weight or grad_weight, and of the output or grad_output.
struct PassStrides {
  Strides input, weight, output;
};

// A convolution, and its tensors' strides.
struct Problem {
  ConvShape shape;
  PassStrides strides;
  Patch patch;  // of the input

  // Counts the K input pixels that an output meets in a row as one pixel of K*C channels. This needs outputs that share
  // no input, and memory in which the channels of a pixel follow those of the pixel before.
  Problem with_pieces_as_pixels() const;

  // For grad_input: counts the K_h x K_w input pixels that an output meets as one pixel of K_h*K_w*C channels. This needs
  // outputs that share no input, adjacent pixels in a row of the input, a weight without gaps, and enough filters and lanes.
  Problem with_patches_as_channels() const;
};

Gather gather_of_forward(const ConvShape& shape, const PassStrides& strides);

// The whole of grad_input, with all taps; and one phase of it, whose first input is (h, w).
Gather gather_of_grad_input(const Problem& problem);
Gather phase_of(const Gather& grad_input, const ConvShape& shape, int64_t h, int64_t w);

// visit(phase) for each residue of the input's pixels modulo the stride.
template <typename Visit>
void for_each_phase(const Gather& grad_input, const ConvShape& shape, const Visit& visit) {
  for (int64_t h : Range{0, shape.h.phases()})
    for (int64_t w : Range{0, shape.w.phases()}) visit(phase_of(grad_input, shape, h, w));
}

// The tensors of a gathering pass.
template <typename Stored, typename Sum>
struct Operands {
  const Sum* source;
  const Sum* weight;
  Stored* destination;
  const Sum* bias;  // of every channel of the destination; null if there is none

  const Sum* source_at(const Gather& g, int64_t n, int64_t c) const {
    return source + n * g.source.n + c * g.source.c;
  }
  Stored* destination_at(const Gather& g, int64_t n, int64_t m) const {
    return destination + n * g.destination.n + m * g.destination.c;
  }
};

}  // namespace convgrad::cpu
