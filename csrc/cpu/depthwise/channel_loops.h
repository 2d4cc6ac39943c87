// The loops whose lanes are groups, or channels of groups, over one row of the destination.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "cpu/common/gather.h"
#include "cpu/common/scratch.h"
#include "cpu/depthwise/channel_blocking.h"
#include "geometry/tap_groups.h"
#include "geometry/tap_segments.h"

namespace convgrad::cpu {

// Part of a row: some pixels under some taps, in tiles of equally many pixels. Distances are in elements.
struct ChannelSlide {
  int64_t source, weight;  // of the first pixel, under the first tap
  int64_t first;           // pixel
  int64_t weight_stride;   // from tap to tap
  int64_t pixels, taps;    // of a tile; no taps: the pixels are zero
  bool fresh;              // whether it is the first of its pixels
  int64_t tiles, next;     // pixels from tile to tile

  // Whether a slide of the same taps continues the tiles of this one; then it becomes one of them.
  bool takes(const ChannelSlide& other) {
    if (other.pixels != pixels || (tiles > 1 && other.first != first + tiles * next)) return false;
    if (tiles == 1) next = other.first - first;
    ++tiles;
    return true;
  }
};

// The slides of a row. Neighbours that meet the same taps are tiles of all these taps. Where a few pixels meet the same, as
// near a border, a tile has the taps that its pixels have in common, and the others follow pixel by pixel.
class RowSlides {
 public:
  static std::vector<ChannelSlide> of(const Gather& g, const ChannelBlocking& blocking) {
    RowSlides row(g, blocking);
    const std::vector<TapSegment> segments = TapSegment::of(g.w, {0, g.w.D});
    for (auto first = segments.begin(); first != segments.end();) {
      auto end = first;
      while (end != segments.end() && end->pixels.size() < row.most) ++end;
      row.add_few(first, end);
      if (end != segments.end()) row.add_alike(*end++);
      first = end;
    }
    return std::move(row.slides);
  }

 private:
  RowSlides(const Gather& g, const ChannelBlocking& blocking)
      : g(g),
        width(blocking.width),
        most(max_slide_rows(width / blocking.lanes)),
        apart(TapGroup::pixels_apart(g.w)) {}

  // Segments of few pixels: in common tiles, if these are fewer.
  template <typename Segment>
  void add_few(Segment first, Segment end) {
    if (first == end) return;
    RowSlides joined(*this);
    const Range pixels{first->pixels.lo, (end - 1)->pixels.hi};
    for (const PixelGroup& group : PixelGroup::of(g.w, pixels, most)) joined.add_unlike(group);
    for (; first != end; ++first) add_alike(*first);
    if (joined.slides.size() < slides.size()) slides = std::move(joined.slides);
  }

  void add_alike(const TapSegment& segment) {
    if (segment.taps.size() == 0)
      for (const PixelGroup& pixels : PixelGroup::of(g.w, segment.pixels, most))
        slides.push_back(zeros(pixels));
    bool fresh = true;
    for (const TapGroup& taps : TapGroup::of(g.w, segment.taps, kMaxSlideTaps)) {
      const size_t first = slides.size();
      for (const PixelGroup& pixels : PixelGroup::of(g.w, segment.pixels, most)) {
        const ChannelSlide slide = slide_of(pixels, taps, fresh);
        if (slides.size() == first || !slides.back().takes(slide)) slides.push_back(slide);
      }
      fresh = false;
    }
  }

  void add_unlike(const PixelGroup& pixels) {
    Range common = g.w.taps_of(pixels.first);
    for (int64_t i : Range{1, pixels.rows}) common = common.common_with(taps_of(pixels, i));
    const bool shares = common.size() > 0;
    if (shares) add(pixels, common, /*fresh=*/true);
    for (int64_t i : Range{0, pixels.rows}) {
      const PixelGroup alone{pixels.first + i * apart, 1};
      const Range taps = taps_of(pixels, i);
      if (taps.size() == 0) slides.push_back(zeros(alone));
      if (!shares) add(alone, taps, /*fresh=*/true);
      if (shares) add(alone, {taps.lo, common.lo}, /*fresh=*/false);
      if (shares) add(alone, {common.hi, taps.hi}, /*fresh=*/false);
    }
  }

  Range taps_of(const PixelGroup& pixels, int64_t i) const {
    return g.w.taps_of(pixels.first + i * apart);
  }

  void add(const PixelGroup& pixels, Range taps, bool fresh) {
    for (const TapGroup& some : TapGroup::of(g.w, taps, kMaxSlideTaps)) {
      slides.push_back(slide_of(pixels, some, fresh));
      fresh = false;
    }
  }

  ChannelSlide slide_of(const PixelGroup& pixels, const TapGroup& taps, bool fresh) const {
    return {.source = g.w.source(pixels.first, taps.first_tap) * g.source.w,
            .weight = taps.first_tap * width,
            .first = pixels.first,
            .weight_stride = place(taps.tap_step, width),
            .pixels = pixels.rows,
            .taps = taps.count,
            .fresh = fresh,
            .tiles = 1,
            .next = 0};
  }

  static ChannelSlide zeros(const PixelGroup& pixels) {
    return {0, 0, pixels.first, 0, pixels.rows, 0, /*fresh=*/true, 1, 0};
  }

  const Gather& g;
  const int64_t width;  // from tap to tap of the packed weight
  const int64_t most;   // pixels of a tile
  const int64_t apart;  // from pixel to pixel of a tile
  std::vector<ChannelSlide> slides;
};

// As [vectors][m][t_h][t_w][lanes].
template <typename Sum>
at::Tensor pack_vectors(const SumTiles<Sum>& tiles, const Gather& g,
                        const ChannelBlocking& blocking, const Sum* weight) {
  at::Tensor packed = allocate<Sum>(blocking.packed_size(g));
  Sum* to = packed.mutable_data_ptr<Sum>();
  const Sum* const first_tap = weight + g.h.tap(0) * g.weight.h + g.w.tap(0) * g.weight.w;
  for (const ChannelVectors& some : blocking.vectors(g))
    for (int64_t row : Range{0, g.M * g.h.T}) {
      const Sum* const of_row =
          first_tap + row / g.h.T * g.weight.n + row % g.h.T * g.h.weight_step * g.weight.h;
      for (int64_t v : Range{0, some.vecs})
        tiles.pack({.tensor = of_row + (some.first + v * tiles.lanes) * g.weight_of_group,
                    .step = place(g.w.weight_step, g.weight.w),
                    .lane_stride = g.weight_of_group,
                    .vectors = to + v * tiles.lanes,
                    .vector_stride = blocking.width,
                    .count = g.w.T,
                    .lanes = tiles.lanes});
      to += g.w.T * blocking.width;
    }
  return packed;
}

// Where a vector finds its sources: lane l reads first[l] or, where groups have several channels, first[index[l]],
// first[index[l] + 1] and so on, channel by channel.
template <typename Sum>
struct LaneSources {
  const Sum* first;
  const int64_t* index = nullptr;
};

// Results of a row of pixels, in vectors of groups.
template <typename Sum>
struct ResultRow {
  Sum* first;
  int64_t pixel_stride;
};

// The sums of a row.
template <typename Sum>
class ChannelSlides {
 public:
  ChannelSlides(const SumTiles<Sum>& tiles, const Gather& g, const ChannelBlocking& blocking)
      : tiles(tiles),
        g(g),
        blocking(blocking),
        slides(RowSlides::of(g, blocking)),
        pixels_apart(TapGroup::pixels_apart(g.w)) {}

  // One run for each row of taps that row y of the destination meets.
  void set_runs(int64_t y, std::vector<Run>& runs) const {
    runs.clear();
    for (int64_t t : g.h.taps_of(y))
      runs.push_back({g.h.source(y, t) * g.source.h, t * g.w.T * blocking.width});
  }

  // For one channel of each group of some vectors, whose source and packed weight are given.
  void add_to(const ResultRow<Sum>& row, int64_t vecs, const LaneSources<Sum>& source,
              const Sum* weight, const std::vector<Run>& runs) const {
    for (const ChannelSlide& slide : slides) add_slide(slide, vecs, runs, source, weight, row);
  }

 private:
  void add_slide(const ChannelSlide& slide, int64_t vecs, const std::vector<Run>& runs,
                 const LaneSources<Sum>& source, const Sum* weight,
                 const ResultRow<Sum>& row) const {
    SlideArgs<Sum> args{};
    args.source = source.first + slide.source;
    args.source_stride = place(pixels_apart, place(g.w.step, g.source.w));
    args.weight = weight + slide.weight, args.weight_stride = slide.weight_stride;
    args.runs = runs.data(), args.run_count = slide.taps == 0 ? 0 : runs.size();
    args.acc = row.first + slide.first * row.pixel_stride;
    args.acc_stride = place(pixels_apart, row.pixel_stride);
    args.fresh = slide.fresh;
    args.more_tiles = slide.tiles - 1;
    args.source_next = place(slide.next, place(g.w.step, g.source.w));
    args.acc_next = place(slide.next, row.pixel_stride);
    args.index = source.index;
    args.channels = g.C, args.weight_channel = product(g.taps(), blocking.width);
    const SlideKind kind = source.index ? kByIndex : kByVectors;
    tiles.slide[kind][vecs][slide.pixels][std::max<int64_t>(1, slide.taps)](args);
  }

  const SumTiles<Sum>& tiles;
  const Gather& g;
  const ChannelBlocking& blocking;
  const std::vector<ChannelSlide> slides;
  const int64_t pixels_apart;
};

// The same with the destination: where tiles cannot write into it, a row of sums is stored behind them.
template <typename Stored, typename Sum>
class ChannelLoops {
 public:
  ChannelLoops(const Tiles<Stored, Sum>& tiles, const Gather& g,
               const Operands<Stored, Sum>& operands, const ChannelBlocking& blocking)
      : tiles(tiles),
        g(g),
        operands(operands),
        blocking(blocking),
        slides(tiles, g, blocking),
        in_place(tiles.in_place && g.M == 1 && g.destination.c == 1) {}

  void set_runs(int64_t y, std::vector<Run>& runs) const { slides.set_runs(y, runs); }

  // Row y in the groups of some vectors, whose source and packed weight are given. `sums` has room for results that are
  // not computed in place.
  void run(int64_t n, int64_t y, const ChannelVectors& some, const LaneSources<Sum>& source,
           const Sum* weight, const std::vector<Run>& runs, Sum* sums) const {
    for (int64_t m : Range{0, g.M}) {
      const ResultRow<Sum> row = row_of(n, y, some.first * g.M + m, sums);
      slides.add_to(row, some.vecs, source, weight, runs);
      if (operands.bias) add_bias(operands.bias + some.first * g.M + m, some.vecs, row);
      if (!in_place) store(n, y, some, m, sums);
      weight += product(g.C, g.taps(), blocking.width);
    }
  }

 private:
  Stored* destination(int64_t n, int64_t y, int64_t channel) const {
    return operands.destination_at(g, n, channel) + g.h.pixel(y) * g.destination.h +
           g.w.pixel(0) * g.destination.w;
  }

  ResultRow<Sum> row_of(int64_t n, int64_t y, int64_t channel, Sum* sums) const {
    if (!in_place) return {sums, blocking.width};
    return {as_sums<Sum>(destination(n, y, channel)), g.w.pixel_step * g.destination.w};
  }

  // To each vector at once: the next one, if it overlaps this one, begins again.
  void add_bias(const Sum* bias, int64_t vecs, const ResultRow<Sum>& row) const {
    for (int64_t x : Range{0, g.w.D})
      for (int64_t lane : Range{0, vecs * tiles.lanes})
        row.first[x * row.pixel_stride + lane] += bias[lane * g.M];
  }

  void store(int64_t n, int64_t y, const ChannelVectors& some, int64_t m, const Sum* sums) const {
    const int64_t lane_stride = g.M * g.destination.c;
    const int64_t width = lane_stride == 1 ? some.vecs * tiles.lanes : tiles.lanes;
    for (int64_t lane = 0; lane < some.vecs * tiles.lanes; lane += width)
      tiles.unpack({.vectors = sums + lane,
                    .vector_stride = blocking.width,
                    .tensor = destination(n, y, (some.first + lane) * g.M + m),
                    .step = place(g.w.pixel_step, g.destination.w),
                    .lane_stride = lane_stride,
                    .count = g.w.D,
                    .lanes = width});
  }

  const Tiles<Stored, Sum>& tiles;
  const Gather& g;
  const Operands<Stored, Sum>& operands;
  const ChannelBlocking& blocking;
  const ChannelSlides<Sum> slides;
  const bool in_place;  // whether tiles write into the destination
};

}  // namespace convgrad::cpu
