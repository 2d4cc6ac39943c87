#include "cpu/depthwise/gather_planes.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/common/meetings.h"
#include "cpu/common/plane_bands.h"
#include "geometry/tap_groups.h"

namespace convgrad::cpu {
namespace {

// A tile's part of a band: some rows under some taps. Distances are in elements.
struct Slide {
  int64_t source, weight, sums;  // of the first row, under the first tap
  int64_t weight_stride;         // from tap to tap
  int64_t rows, taps;
  Range tap_columns;
  bool fresh;  // whether it is the first of its rows
};

// What the channels of a band have in common.
class BandSlides {
 public:
  BandSlides(const Gather& g, const PlaneBlocking& blocking, Range ys)
      : ys(ys),
        strip(g.h, g.w, ys, blocking.row.images.size),
        pixels_apart(TapGroup::pixels_apart(g.h)),
        tap_groups(TapGroup::of(g.h, {0, g.h.T}, kMaxSlideTaps)) {
    for (int64_t t : Range{0, g.w.T})
      runs.push_back({strip.column(g.w.source(0, t)), g.w.tap(t) * g.weight.w});
    for (const PixelGroup& pixels : PixelGroup::of(g.h, ys, blocking.tile_rows))
      add_slides(g, blocking, pixels);
  }

  const Range ys;
  const PlaneStrip strip;
  const int64_t pixels_apart;
  std::vector<Run> runs;  // of each column of taps
  std::vector<Slide> slides;

 private:
  // All taps, cut the same way for every pixel: the order of a sum does not depend on the band.
  const std::vector<TapGroup> tap_groups;

  // Taps that meet only padding are left out, but for one, which writes zeros.
  static Range taps_of(const Walk& h, const PixelGroup& pixels, int64_t apart) {
    const Range first = h.taps_of(pixels.first);
    const Range last = h.taps_of(pixels.first + (pixels.rows - 1) * apart);
    const Range taps{std::min(first.lo, last.lo), std::max(first.hi, last.hi)};
    return taps.size() == 0 ? Range{0, 1} : taps;
  }

  void add_slides(const Gather& g, const PlaneBlocking& blocking, const PixelGroup& pixels) {
    bool fresh = true;
    for (const TapGroup& group : tap_groups) {
      const TapGroup taps = group.common_with(taps_of(g.h, pixels, pixels_apart));
      if (taps.count == 0) continue;
      for (int64_t i : Range{0, blocking.tap_columns.count}) {
        const int64_t row = strip.row(g.h.source(pixels.first, taps.first_tap));
        slides.push_back({.source = row * strip.row_size(),
                          .weight = g.h.tap(taps.first_tap) * g.weight.h,
                          .sums = (pixels.first - ys.lo) * blocking.row.width,
                          .weight_stride = place(taps.tap_step, place(g.h.weight_step, g.weight.h)),
                          .rows = pixels.rows,
                          .taps = taps.count,
                          .tap_columns = blocking.tap_columns.at(i, g.w.T),
                          .fresh = fresh});
        fresh = false;
      }
    }
  }
};

template <typename Stored, typename Sum>
class PlaneLoops {
 public:
  PlaneLoops(const Tiles<Stored, Sum>& tiles, const Gather& g,
             const Operands<Stored, Sum>& operands, const PlaneBlocking& blocking,
             const BandSlides& band, Sum* scratch)
      : tiles(tiles),
        g(g),
        operands(operands),
        blocking(blocking),
        band(band),
        strips(scratch),
        sums(strips + blocking.strips_size(g)) {}

  void run(Range images, int64_t group) const {
    fill_strips(tiles, g, operands, blocking, band.strip, images, group, strips);
    if (blocking.fetches_next && group + 1 < g.groups) fetch(images, group + 1);
    for (int64_t m : Range{0, g.M}) {
      const Sum* const weight = operands.weight + group * g.weight_of_group + m * g.weight.n;
      if (is_finite(weight))
        add_slides(weight);
      else
        for (int64_t n : images)
          for (int64_t y : band.ys) {
            Sum* const row = sums_of(n - images.lo) + (y - band.ys.lo) * blocking.row.width;
            for_each_sum_of_meetings<Sum>(g, {tiles.pairs}, operands.source_at(g, n, group * g.C),
                                          weight, y, [&](int64_t x, Sum sum) { row[x] = sum; });
          }
      for (int64_t n : images) store(n, group * g.M + m, sums_of(n - images.lo));
    }
  }

 private:
  void fetch(Range images, int64_t group) const {
    for (int64_t n : images)
      for (int64_t c : Range{0, g.C})
        band.strip.fetch(g.source, operands.source_at(g, n, group * g.C + c));
  }

  Sum* sums_of(int64_t image) const { return sums + image * blocking.row.distance; }

  bool is_finite(const Sum* weight) const {
    bool finite = true;
    for (int64_t c : Range{0, g.C})
      for (int64_t t_h : Range{0, g.h.T})
        for (int64_t t_w : Range{0, g.w.T})
          finite &= std::isfinite(
              weight[c * g.weight.c + g.h.tap(t_h) * g.weight.h + g.w.tap(t_w) * g.weight.w]);
    return finite;
  }

  void add_slides(const Sum* weight) const {
    for (const Slide& slide : band.slides)
      for (int64_t c : Range{0, g.C})
        add_slide(slide, strips + c * blocking.strip_size, weight + c * g.weight.c,
                  slide.fresh && c == 0);
  }

  void add_slide(const Slide& slide, const Sum* strip, const Sum* weight, bool fresh) const {
    SlideArgs<Sum> args{};
    args.source = strip + slide.source;
    args.source_stride = place(band.pixels_apart, band.strip.row_size());
    args.weight = weight + slide.weight, args.weight_stride = slide.weight_stride;
    args.runs = band.runs.data() + slide.tap_columns.lo, args.run_count = slide.tap_columns.size();
    args.acc = sums + slide.sums, args.acc_stride = place(band.pixels_apart, blocking.row.width);
    args.fresh = fresh;
    int64_t left = blocking.row.width / tiles.lanes;
    for (int64_t vecs = kMaxSlideVecs; vecs > 0; --vecs) {
      const int64_t count = left / vecs, size = vecs * tiles.lanes;
      if (count == 0) continue;
      args.more_tiles = count - 1, args.source_next = size, args.acc_next = size;
      tiles.slide[kByNumbers][vecs][slide.rows][slide.taps](args);
      args.source += count * size, args.acc += count * size, left -= count * vecs;
    }
  }

  void store(int64_t n, int64_t channel, const Sum* from) const {
    tiles.store_rows({.from = from,
                      .bias = operands.bias ? operands.bias[channel] : Sum(0),
                      .to = operands.destination_at(g, n, channel) +
                            g.h.pixel(band.ys.lo) * g.destination.h +
                            g.w.pixel(0) * g.destination.w,
                      .step = place(g.w.pixel_step, g.destination.w),
                      .count = g.w.D,
                      .rows = band.ys.size(),
                      .from_row = blocking.row.width,
                      .to_row = place(g.h.pixel_step, g.destination.h)});
  }

  const Tiles<Stored, Sum>& tiles;
  const Gather& g;
  const Operands<Stored, Sum>& operands;
  const PlaneBlocking& blocking;
  const BandSlides& band;
  Sum* const strips;  // of each channel of the source
  Sum* const sums;    // of one channel of the destination, for all images
};

}  // namespace

template <typename Stored, typename Sum>
void gather_planes(const Tiles<Stored, Sum>& tiles, const Gather& g,
                   const Operands<Stored, Sum>& operands, const PlaneBlocking& blocking) {
  for_each_band<Sum>(
      g, blocking, blocking.scratch_size(g), [&](Range ys, const BandItems& items, Sum* scratch) {
        const BandSlides band(g, blocking, ys);
        const PlaneLoops<Stored, Sum> loops(tiles, g, operands, blocking, band, scratch);
        items.for_each([&](Range images, int64_t group) { loops.run(images, group); });
      });
}

template void gather_planes(const Tiles<float, float>&, const Gather&,
                            const Operands<float, float>&, const PlaneBlocking&);
template void gather_planes(const Tiles<at::BFloat16, float>&, const Gather&,
                            const Operands<at::BFloat16, float>&, const PlaneBlocking&);
template void gather_planes(const Tiles<double, double>&, const Gather&,
                            const Operands<double, double>&, const PlaneBlocking&);

}  // namespace convgrad::cpu
