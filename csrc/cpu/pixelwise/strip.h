// The strip of a pixelwise pass: the slices of an item, copied where tiles cannot read the tensor.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/common/prefetch.h"
#include "cpu/kernels/tiles.h"
#include "cpu/pixelwise/blocking.h"
#include "cpu/pixelwise/pixel_rows.h"

namespace convgrad::cpu {

using Segments = std::vector<std::vector<Segment>>;  // of each slice

template <typename Sum>
class PixelStrip {
 public:
  // Part of channel 0 of a strip: whole slices that follow each other in the image, some pixels of one slice,
  // or zeros.
  struct Copy {
    enum Kind { kSlices, kPixels, kZeros } kind;
    int64_t from;   // the first source, in elements
    int64_t to;     // in the strip, in elements
    int64_t count;  // of slices or of pixels
  };

  PixelStrip(const SumTiles<Sum>& tiles, const Gather& g, const PixelwiseBlocking& blocking,
             const PixelRows& pixels, const Sum* source)
      : tiles(tiles), g(g), blocking(blocking), pixels(pixels), source(source) {}

  Segments segments_of(int64_t slice_block) const {
    const int64_t width = blocking.width;
    Segments segments;
    for (int64_t slice :
         blocking.slices.at(slice_block, Blocks::covering(pixels.count(), width).count))
      segments.push_back(
          pixels.segments(Range::within(slice * width, (slice + 1) * width, pixels.count())));
    return segments;
  }

  std::vector<Copy> copies_of(const Segments& segments) const {
    std::vector<Copy> copies;
    int64_t to = 0;
    for (const std::vector<Segment>& slice : segments) {
      for (const Segment& s : slice) add_copies(s, to, copies);
      const int64_t end = slice.back().at + slice.back().xs.size();
      if (end < blocking.width) copies.push_back({Copy::kZeros, 0, to + end, blocking.width - end});
      to += blocking.slice_size;
    }
    return copies;
  }

  // The strip is [slice][channel][pixel]. It is filled in the order of the tensor: image by image where several channels
  // share a page, and channel by channel otherwise.
  void fill(const std::vector<Copy>& copies, int64_t channel, Sum* strip) const {
    constexpr int64_t kPage = 4096;
    if (2 * g.source.c * static_cast<int64_t>(sizeof(Sum)) <= kPage)
      return fill_images(copies, channel, strip);
    for (int64_t c : Range{0, g.C})
      for (const Copy& copy : copies) {
        Sum* const to = strip + copy.to + c * blocking.width;
        const Sum* from = source + copy.from + (channel + c) * g.source.c;
        if (copy.kind == Copy::kZeros)
          std::fill_n(to, copy.count, Sum(0));
        else if (copy.kind == Copy::kPixels)
          tiles.load_rows(
              {.from = from, .step = pixels.source_step(), .to = to, .count = copy.count});
        else if (!blocking.in_place)
          copy_slices(from, copy.count, to);
      }
  }

  // Prefetches the sources of these copies in some channels into L2. Channels are pages apart, and the
  // processor prefetches no other page by itself.
  void fetch(const std::vector<Copy>& copies, int64_t channel, Range channels) const {
    const int64_t step = pixels.source_step();
    const int64_t next =
        std::max<int64_t>(step, 64 / sizeof(Sum));  // line by line, if pixels share lines
    for (int64_t c : channels)
      for (const Copy& copy : copies) {
        if (copy.kind == Copy::kZeros) continue;
        const int64_t count = copy.kind == Copy::kSlices ? copy.count * blocking.width : copy.count;
        const Sum* from = source + copy.from + (channel + c) * g.source.c;
        for (int64_t at = 0; at < count * step; at += next) prefetch_into_l2(from + at);
      }
  }

 private:
  void fill_images(const std::vector<Copy>& copies, int64_t channel, Sum* strip) const {
    for (const Copy& copy : copies) {
      Sum* const to = strip + copy.to;
      const Sum* from = source + copy.from + channel * g.source.c;
      if (copy.kind == Copy::kZeros)
        for (int64_t c : Range{0, g.C}) std::fill_n(to + c * blocking.width, copy.count, Sum(0));
      else if (copy.kind == Copy::kPixels)
        load_channels(from, pixels.source_step(), copy.count, to);
      else if (!blocking.in_place)
        for (int64_t slice : Range{0, copy.count})
          load_channels(from + slice * blocking.width, 1, blocking.width,
                        to + slice * blocking.slice_size);
    }
  }

  void load_channels(const Sum* from, int64_t step, int64_t count, Sum* to) const {
    tiles.load_rows({.from = from,
                     .step = step,
                     .to = to,
                     .count = count,
                     .rows = g.C,
                     .from_row = g.source.c,
                     .to_row = blocking.width});
  }

  void add_copies(const Segment& s, int64_t slice, std::vector<Copy>& copies) const {
    const Inside inside = pixels.inside_of(s);
    const int64_t to = slice + s.at, after = inside.before + inside.count;
    if (inside.count == blocking.width && pixels.source_step() == 1) {
      const bool follows =
          !copies.empty() && copies.back().kind == Copy::kSlices &&
          copies.back().from + copies.back().count * blocking.width == inside.source;
      if (follows)
        ++copies.back().count;
      else
        copies.push_back({Copy::kSlices, inside.source, to, 1});
      return;
    }
    if (inside.before > 0) copies.push_back({Copy::kZeros, 0, to, inside.before});
    if (inside.count > 0)
      copies.push_back({Copy::kPixels, inside.source, to + inside.before, inside.count});
    if (after < s.xs.size()) copies.push_back({Copy::kZeros, 0, to + after, s.xs.size() - after});
  }

  void copy_slices(const Sum* from, int64_t count, Sum* to) const {
    tiles.load_rows({.from = from,
                     .step = 1,
                     .to = to,
                     .count = blocking.width,
                     .rows = count,
                     .from_row = blocking.width,
                     .to_row = blocking.slice_size});
  }

  const SumTiles<Sum>& tiles;
  const Gather& g;
  const PixelwiseBlocking& blocking;
  const PixelRows& pixels;
  const Sum* source;
};

}  // namespace convgrad::cpu
