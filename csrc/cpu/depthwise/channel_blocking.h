// How the loops over adjacent channels are cut into blocks: the lanes are groups or, in groups of few channels, channels of
// several groups.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/common/blocks.h"
#include "cpu/common/gather.h"
#include "cpu/target.h"

namespace convgrad::cpu {

// Some channels as vectors. The last one may overlap channels before it: whole vectors are read and written in place.
struct ChannelVectors {
  int64_t first, vecs;

  // Of a range that ends at a vector's width or beyond.
  static std::vector<ChannelVectors> of(Range channels, int64_t lanes, int64_t most_vecs) {
    std::vector<ChannelVectors> all;
    for (int64_t at = channels.lo; at < channels.hi; at += all.back().vecs * lanes) {
      const int64_t vecs = std::clamp<int64_t>((channels.hi - at) / lanes, 1, most_vecs);
      all.push_back({std::min(at, channels.hi - lanes), vecs});
    }
    return all;
  }
};

// forward and grad_input: an item is a row of the destination.
struct ChannelBlocking {
  int64_t lanes;  // of a vector
  int64_t width;  // from tap to tap of the packed weight, from pixel to pixel of sums, in elements
  bool fetches_rows;  // whether a row prefetches the sources of the next one

  static ChannelBlocking of(const Target& target, const Gather& g);

  // Null if these loops can run the pass.
  static const char* why_not(const Target& target, const Gather& g);

  std::vector<ChannelVectors> vectors(const Gather& g) const {
    return ChannelVectors::of({0, g.groups}, lanes, width / lanes);
  }
  int64_t packed_size(const Gather& g) const {
    return product(vectors(g).size(), g.M, g.C, g.taps(), width);
  }
  int64_t scratch_size(const Gather& g) const { return product(g.w.D, width); }  // of a thread
};

// The same for planes of narrow rows: an item is one image in the groups of some vectors,
// whose maps are copied so that channels are adjacent, and copied back.
struct MapBlocking {
  ChannelBlocking channels;
  int64_t source_size, result_size;  // of the copies, in elements

  static MapBlocking of(const Target& target, const Gather& g);
  static const char* why_not(const Target& target, const Gather& g);

  int64_t scratch_size() const { return source_size + result_size; }  // of a thread
};

// Groups of M channels of the destination, the lanes, and of C channels of the source.
struct ChannelGroups {
  int64_t groups, M, C;

  // Whether whole groups fill a vector, and their sources are in one vector: two groups or more, or one under a stride,
  // where loops over strips are slower.
  bool fill_vectors(int64_t lanes, bool strided) const;
};

// The sources of a vector: as many channels from `first` on, and which of them is the first one of each lane's group.
struct VectorSources {
  int64_t first;
  std::vector<int64_t> index;

  // Of each of these vectors of the destination's channels.
  static std::vector<VectorSources> of(const ChannelGroups& g,
                                       const std::vector<ChannelVectors>& vectors, int64_t lanes);
};

// forward and grad_input of groups of few channels: an item is a row of the destination, whose channels are the lanes.
struct GroupBlocking {
  ChannelBlocking channels;

  static GroupBlocking of(const Target& target);
  static const char* why_not(const Target& target, const Gather& g);

  // The same pass; its groups are the destination's channels.
  static Gather over_channels(Gather g) {
    g.groups = product(g.groups, g.M), g.M = 1;
    return g;
  }
  // Of a thread, in elements: a row of results that tiles cannot write in place.
  int64_t scratch_size(const TileShape& tiles, const Gather& over_channels) const {
    return tiles.in_place ? 0 : channels.scratch_size(over_channels);
  }
};

// grad_weight: an item is some groups in a chunk of the rows of all images.
struct ChannelWeightBlocking {
  int64_t lanes;
  // `groups` of M output and C input channels. Where a group has several input channels, each of its output channels
  // counts as a group, and M is 1.
  int64_t groups, M, C;
  int64_t taps;
  Blocks parts;       // of the groups, in vectors
  Blocks chunks;      // of rows of the output
  bool fetches_rows;  // whether a row prefetches the next one, where every channel is a group

  static ChannelWeightBlocking of(const Target& target, const ConvShape& shape);
  static const char* why_not(const Target& target, const ConvShape& shape, const Strides& input,
                             const Strides& grad_output);

  int64_t items() const { return parts.count * chunks.count; }
  Range groups_of(int64_t part) const {
    const Range vectors = parts.at(part, ceil_div(groups, lanes));
    return Range::within(vectors.lo * lanes, vectors.hi * lanes, groups);
  }
  // Of all threads, in elements: the sums of every item, as vectors of groups for each tap.
  int64_t item_size() const { return product(parts.size, M, C, taps, lanes); }
  int64_t sums_size() const { return product(items(), item_size()); }
  // Of a thread, in elements: a row of grad_output, unless its channels are as adjacent as those of the input.
  int64_t scratch_size(const ConvShape& shape) const {
    return M == 1 ? 0 : product(shape.w.O, lanes);
  }
};

}  // namespace convgrad::cpu
