#include "cpu/rowwise/gather.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/common/meetings.h"
#include "cpu/common/scratch.h"
#include "cpu/common/threads.h"

namespace convgrad::cpu {
namespace {

// The weight as [group][block of channels][t_h][t_w][channel of the source][channel of the destination]. A number that is
// not finite counts as zero: its product with a zero of the padding is NaN. The pixels that it meets are summed again.
template <typename Sum>
class RowWeights {
 public:
  RowWeights(const Gather& g, const RowwiseBlocking& blocking, const Sum* weight, bool pairs)
      : elements{pairs},
        g(g),
        blocking(blocking),
        weight(weight),
        packed(allocate<Sum>(blocking.packed_size(g))),
        finite(g.groups * g.M) {
    Sum* const to = packed.mutable_data_ptr<Sum>();
    const int64_t grain = grain_of(product(8, blocking.block_size(g)));
    at::parallel_for(0, g.groups * blocking.channels.count, grain, [&](int64_t lo, int64_t hi) {
      for (int64_t i : Range{lo, hi}) {
        const int64_t group = i / blocking.channels.count;
        const Range channels = blocking.channels.at(i % blocking.channels.count, g.M);
        for (int64_t m : channels)
          finite[group * g.M + m] =
              pack(of_channel(group, m), to + i * blocking.block_size(g) + m - channels.lo);
      }
    });
  }

  const Sum* of_block(int64_t group, int64_t block) const {
    return packed.template const_data_ptr<Sum>() +
           (group * blocking.channels.count + block) * blocking.block_size(g);
  }
  const Sum* of_channel(int64_t group, int64_t m) const {
    return weight + group * g.weight_of_group + m * g.weight.n;
  }
  const Elements<Sum> elements;

  bool is_finite(int64_t group, int64_t m) const { return finite[group * g.M + m]; }

 private:
  // Whether all of them are finite.
  bool pack(const Sum* from, Sum* to) const {
    bool all = true;
    for (int64_t c : Range{0, g.C})
      for (int64_t t_h : Range{0, g.h.T})
        for (int64_t t_w : Range{0, g.w.T}) {
          const Sum value =
              from[c * g.weight.c + g.h.tap(t_h) * g.weight.h + g.w.tap(t_w) * g.weight.w];
          to[(t_h * g.w.T + t_w) * blocking.tap_step(g) + c * blocking.channel_step()] =
              elements.is_finite(value) ? value : Sum(0);
          all &= elements.is_finite(value);
        }
    return all;
  }

  const Gather& g;
  const RowwiseBlocking& blocking;
  const Sum* weight;
  at::Tensor packed;
  std::vector<char> finite;  // of every channel of the destination; threads write neighbours
};

// What the items of a band have in common.
struct RowBand {
  Range ys;
  PlaneStrip strip;
  std::vector<std::vector<Run>> runs;  // of each chain, for the first row

  RowBand(const Gather& g, const RowwiseBlocking& blocking, Range ys)
      : ys(ys), strip(g.h, g.w, ys, blocking.row.images.size) {
    for (int64_t i : Range{0, blocking.chains.count()})
      runs.push_back(runs_of(blocking.chains.at(i), g, blocking));
  }

 private:
  // One for each tap, along the channels; otherwise one for each channel and tap.
  std::vector<Run> runs_of(const Chain& chain, const Gather& g,
                           const RowwiseBlocking& blocking) const {
    const int64_t lo = chain.channels.lo;
    std::vector<Run> all;
    for (int64_t c : g.channels_inside() ? Range{lo, lo + 1} : chain.channels)
      for (int64_t t_h : chain.taps_h)
        for (int64_t t_w : chain.taps_w)
          all.push_back({(t_h * g.w.T + t_w) * blocking.tap_step(g) + c * blocking.channel_step(),
                         c * blocking.strip_size +
                             strip.row(g.h.source(ys.lo, t_h)) * strip.row_size() +
                             strip.column(g.w.source(0, t_w))});
    return all;
  }
};

template <typename Stored, typename Sum>
class RowwiseLoops {
 public:
  RowwiseLoops(const Tiles<Stored, Sum>& tiles, const Gather& g,
               const Operands<Stored, Sum>& operands, const RowwiseBlocking& blocking,
               const RowWeights<Sum>& weights, const RowBand& band, Sum* scratch)
      : tiles(tiles),
        g(g),
        operands(operands),
        blocking(blocking),
        weights(weights),
        band(band),
        strips(scratch),
        sums(strips + blocking.strips_size(g)) {}

  void run(Range images, int64_t group) const {
    fill_strips(tiles, g, operands, blocking, band.strip, images, group, strips);
    for (int64_t block : Range{0, blocking.channels.count}) {
      const Range channels = blocking.channels.at(block, g.M);
      for (int64_t y : band.ys) {
        add_row(weights.of_block(group, block), y, channels.size());
        for (int64_t m : channels)
          for (int64_t n : images)
            store(n, group, m, y,
                  sums + (m - channels.lo) * blocking.row.width +
                      (n - images.lo) * blocking.row.distance);
      }
    }
  }

 private:
  void add_row(const Sum* weight, int64_t y, int64_t rows) const {
    TileArgs<Sum> args{};
    args.a = weight, args.row_stride = 1, args.a_step = blocking.channel_step();
    args.panel_stride = tiles.lanes, args.b_step = blocking.strip_size;
    args.acc_stride = blocking.row.width;
    for (int64_t i : Range{0, blocking.chains.count()}) {
      args.runs = band.runs[i].data(), args.run_count = band.runs[i].size();
      args.length = g.channels_inside() ? blocking.chains.at(i).channels.size() : 1;
      args.fresh = i == 0;
      args.b = strips + (y - band.ys.lo) * band.strip.row_size(), args.acc = sums;
      int64_t left = blocking.row.width / tiles.lanes;
      for (int64_t pieces = blocking.vecs.count; pieces > 0; --pieces) {
        const int64_t vecs = ceil_div(left, pieces);
        tiles.tile[kRowsAdjacent][vecs][rows](args);
        args.b += vecs * tiles.lanes, args.acc += vecs * tiles.lanes, left -= vecs;
      }
    }
  }

  void store(int64_t n, int64_t group, int64_t m, int64_t y, Sum* from) const {
    const int64_t channel = group * g.M + m;
    if (!weights.is_finite(group, m))
      for_each_sum_of_meetings<Sum>(g, weights.elements, operands.source_at(g, n, group * g.C),
                                    weights.of_channel(group, m), y, [&](int64_t x, Sum sum) {
                                      if (!std::isfinite(sum)) from[x] = sum;
                                    });
    tiles.store_rows({.from = from,
                      .bias = operands.bias ? operands.bias[channel] : Sum(0),
                      .to = operands.destination_at(g, n, channel) +
                            g.h.pixel(y) * g.destination.h + g.w.pixel(0) * g.destination.w,
                      .step = place(g.w.pixel_step, g.destination.w),
                      .count = g.w.D});
  }

  const Tiles<Stored, Sum>& tiles;
  const Gather& g;
  const Operands<Stored, Sum>& operands;
  const RowwiseBlocking& blocking;
  const RowWeights<Sum>& weights;
  const RowBand& band;
  Sum* const strips;  // of each channel of the source
  Sum* const sums;    // of a row of a block of channels, for all images
};

}  // namespace

template <typename Stored, typename Sum>
void gather_rowwise(const Tiles<Stored, Sum>& tiles, const Gather& g,
                    const Operands<Stored, Sum>& operands, const RowwiseBlocking& blocking) {
  const RowWeights<Sum> weights(g, blocking, operands.weight, tiles.pairs);
  for_each_band<Sum>(
      g, blocking, blocking.scratch_size(g), [&](Range ys, const BandItems& items, Sum* scratch) {
        const RowBand band(g, blocking, ys);
        const RowwiseLoops<Stored, Sum> loops(tiles, g, operands, blocking, weights, band, scratch);
        items.for_each([&](Range images, int64_t group) { loops.run(images, group); });
      });
}

template void gather_rowwise(const Tiles<float, float>&, const Gather&,
                             const Operands<float, float>&, const RowwiseBlocking&);
template void gather_rowwise(const Tiles<at::BFloat16, float>&, const Gather&,
                             const Operands<at::BFloat16, float>&, const RowwiseBlocking&);
template void gather_rowwise(const Tiles<double, double>&, const Gather&,
                             const Operands<double, double>&, const RowwiseBlocking&);

}  // namespace convgrad::cpu
