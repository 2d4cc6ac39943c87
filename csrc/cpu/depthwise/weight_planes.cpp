#include "cpu/depthwise/weight_planes.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/common/plane_strip.h"
#include "cpu/common/prefetch.h"
#include "cpu/common/scratch.h"
#include "cpu/common/threads.h"
#include "geometry/tap_groups.h"

namespace convgrad::cpu {
namespace {

// The part of a band that a tile sums over: taps of one group, and the rows that come in groups of one size.
struct TapSlide {
  TapGroup taps;
  Blocks columns;  // of taps, whose sums a tile has at once
  int64_t rows;
  std::vector<Run> runs;  // of the strip and of grad_output, in elements
};

// What the channels of a band have in common.
class WeightBand {
 public:
  WeightBand(const TileShape& tiles, const Walk& h, const Walk& w,
             const PlaneWeightBlocking& blocking, Range ys)
      : ys(ys), strip(h, w, ys, blocking.row.images.size) {
    for (int64_t t : Range{0, w.T}) columns.push_back(strip.column(w.source(0, t)));
    const std::vector<PixelGroup> pixels = PixelGroup::of(h, ys, kMaxSlideTapsRows);
    for (const TapGroup& taps : TapGroup::of(h, {0, h.T}, kMaxSlideTaps))
      for (int64_t rows = kMaxSlideTapsRows; rows > 0; --rows) {
        TapSlide slide{taps, Blocks::covering(w.T, tiles.slide_columns(taps.count)), rows, {}};
        for (const PixelGroup& group : pixels)
          if (group.rows == rows)
            slide.runs.push_back(
                {strip.row(h.source(group.first, taps.first_tap)) * strip.row_size(),
                 (group.first - ys.lo) * blocking.row.width});
        if (!slide.runs.empty()) slides.push_back(std::move(slide));
      }
  }

  const Range ys;
  const PlaneStrip strip;
  std::vector<int64_t> columns;  // the position of each column of taps
  std::vector<TapSlide> slides;
};

// One pass: the values that its items share.
template <typename Sum>
struct PlaneWeightPass {
  const Tiles<Sum, Sum>& tiles;
  const ConvShape& shape;
  const PlaneWeightBlocking& blocking;
  const WeightOperands<Sum>& operands;
  Walk h{}, w{};
  std::vector<WeightBand> bands;

  static PlaneWeightPass of(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                            const PlaneWeightBlocking& blocking,
                            const WeightOperands<Sum>& operands) {
    PlaneWeightPass pass{tiles, shape, blocking, operands, shape.h.outputs(), shape.w.outputs(),
                         {}};
    for (int64_t i : Range{0, blocking.rows.count})
      pass.bands.emplace_back(tiles, pass.h, pass.w, blocking, blocking.rows.at(i, pass.h.D));
    return pass;
  }
};

// The items of a thread: each is one output channel in one chunk.
template <typename Sum>
class PlaneWeightLoops {
 public:
  PlaneWeightLoops(const PlaneWeightPass<Sum>& pass, Sum* scratch)
      : pass(pass),
        tiles(pass.tiles),
        blocking(pass.blocking),
        strips(scratch),
        grads(strips + product(blocking.C_in, blocking.strip_size)),
        sums(grads + blocking.grad_size()) {}

  // The sums of all taps of a chunk's bands, as [c_in][k_h][k_w].
  void run(int64_t c_out, Range bands, Sum* taps) {
    const PlaneRow& row = blocking.row;
    std::fill_n(sums, product(blocking.C_in, blocking.sum_size), Sum(0));
    for (int64_t i : bands) {
      const WeightBand& band = pass.bands[i / row.images.count];
      const Range images = row.images.at(i % row.images.count, pass.shape.N);
      clear_around(band, images.size());
      copy(c_out, band, images);
      if (blocking.fetches_next && c_out + 1 < pass.shape.C_out) fetch(c_out + 1, band, images);
      for (const TapSlide& slide : band.slides)
        for (int64_t c : Range{0, blocking.C_in}) add_slide(band, slide, c);
    }
    for (int64_t i : Range{0, blocking.C_in * pass.shape.taps()})
      taps[i] = sum_of_lanes(sums + i * tiles.lanes);
  }

 private:
  // Zeros where no element is copied to. They stay until another band comes, whose padding is elsewhere, or other images.
  void clear_around(const WeightBand& band, int64_t images) {
    if (last == &band && last_images == images) return;
    std::fill(strips, sums, Sum(0));
    last = &band, last_images = images;
  }

  void copy(int64_t c_out, const WeightBand& band, Range images) const {
    const auto& [input, grad_output, grad_weight] = pass.operands;
    const Range inputs = pass.shape.inputs_of(c_out);
    for (int64_t n : images) {
      for (int64_t c : inputs)
        band.strip.fill(tiles, input, input.at(n, c), n - images.lo,
                        strips + (c - inputs.lo) * blocking.strip_size);
      tiles.load_rows({.from = grad_output.at(n, c_out) + band.ys.lo * grad_output.h,
                       .step = grad_output.w,
                       .to = grads + (n - images.lo) * blocking.row.distance,
                       .count = pass.w.D,
                       .rows = band.ys.size(),
                       .from_row = grad_output.h,
                       .to_row = blocking.row.width});
    }
  }

  // Prefetches what an output channel copies.
  void fetch(int64_t c_out, const WeightBand& band, Range images) const {
    const auto& [input, grad_output, grad_weight] = pass.operands;
    for (int64_t n : images) {
      for (int64_t c : pass.shape.inputs_of(c_out)) band.strip.fetch(input, input.at(n, c));
      if (grad_output.w == 1)
        prefetch_pieces(grad_output.at(n, c_out) + band.ys.lo * grad_output.h, band.ys.size(),
                        grad_output.h, pass.w.D);
    }
  }

  void add_slide(const WeightBand& band, const TapSlide& slide, int64_t c) const {
    const int64_t apart = TapGroup::pixels_apart(pass.h), lanes = tiles.lanes;
    SlideTapsArgs<Sum> args{};
    args.source = strips + c * blocking.strip_size;
    args.source_stride = place(apart, band.strip.row_size());
    args.grad = grads, args.grad_stride = place(apart, blocking.row.width);
    args.runs = slide.runs.data(), args.run_count = slide.runs.size();
    args.length = blocking.row.width / lanes, args.source_step = args.grad_step = lanes;
    args.acc_column = lanes, args.acc_stride = place(slide.taps.tap_step, pass.w.T * lanes);
    Sum* const of_input = sums + c * blocking.sum_size + slide.taps.first_tap * pass.w.T * lanes;
    for (int64_t i : Range{0, slide.columns.count}) {
      const Range columns = slide.columns.at(i, pass.w.T);
      args.columns = band.columns.data() + columns.lo;
      args.acc = of_input + columns.lo * lanes;
      tiles.slide_taps[false][columns.size()][slide.rows][slide.taps.count](args);
    }
  }

  // Halves, as long as there are two.
  Sum sum_of_lanes(Sum* sum) const {
    for (int64_t half = tiles.lanes / 2; half > 0; half /= 2)
      for (int64_t lane : Range{0, half}) sum[lane] += sum[lane + half];
    return sum[0];
  }

  const PlaneWeightPass<Sum>& pass;
  const Tiles<Sum, Sum>& tiles;
  const PlaneWeightBlocking& blocking;
  // Whose copies the scratch has: null before the first item.
  const WeightBand* last = nullptr;
  int64_t last_images = 0;
  Sum* const strips;  // of each input channel
  Sum* const grads;   // of grad_output
  Sum* const sums;    // vectors, as [c_in][k_h][k_w]
};

// Meeting by meeting, because the product of an infinite pixel and a zero beyond the end of a row is NaN.
template <typename Sum>
Sum sum_of_meetings(const PlaneWeightPass<Sum>& pass, int64_t c_out, int64_t c_in, int64_t k_h,
                    int64_t k_w) {
  const auto& [input, grad_output, grad_weight] = pass.operands;
  const Range ys = pass.shape.h.outputs_of_tap(k_h), xs = pass.shape.w.outputs_of_tap(k_w);
  Sum sum = 0;
  for (int64_t n : Range{0, pass.shape.N})
    for (int64_t y : ys)
      for (int64_t x : xs)
        sum += static_cast<Sum>(grad_output.at(n, c_out)[y * grad_output.h + x * grad_output.w]) *
               static_cast<Sum>(input.at(
                   n, c_in)[pass.h.source(y, k_h) * input.h + pass.w.source(x, k_w) * input.w]);
  return sum;
}

// Adds the chunks in their order, and stores the taps of one output channel.
template <typename Sum>
void store_taps(const PlaneWeightPass<Sum>& pass, const Sum* taps, int64_t c_out) {
  const ConvShape& shape = pass.shape;
  const Images<Sum>& grad_weight = pass.operands.grad_weight;
  const int64_t chunk_size = shape.C_out * pass.blocking.C_in * shape.taps();
  const Range inputs = shape.inputs_of(c_out);
  for (int64_t c : Range{0, inputs.size()})
    for (int64_t k_h : Range{0, shape.h.K})
      for (int64_t k_w : Range{0, shape.w.K}) {
        const int64_t tap = ((c_out * inputs.size() + c) * shape.h.K + k_h) * shape.w.K + k_w;
        Sum sum = taps[tap];
        for (int64_t chunk : Range{1, pass.blocking.chunks.count})
          sum += taps[chunk * chunk_size + tap];
        if (!std::isfinite(sum)) sum = sum_of_meetings(pass, c_out, inputs.lo + c, k_h, k_w);
        grad_weight.at(c_out, c)[k_h * grad_weight.h + k_w * grad_weight.w] = static_cast<Sum>(sum);
      }
}

}  // namespace

template <typename Sum>
void weight_planes(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                   const PlaneWeightBlocking& blocking, const WeightOperands<Sum>& operands) {
  const auto pass = PlaneWeightPass<Sum>::of(tiles, shape, blocking, operands);
  const int64_t chunks = blocking.chunks.count, item_taps = blocking.C_in * shape.taps();
  const at::Tensor taps = allocate<Sum>(blocking.taps_size(shape));
  Sum* const all = taps.mutable_data_ptr<Sum>();
  const int64_t work = product(blocking.chunks.size, blocking.grad_size(), item_taps);
  at::parallel_for(0, chunks * shape.C_out, grain_of(work), [&](int64_t begin, int64_t end) {
    const at::Tensor scratch = allocate<Sum>(blocking.scratch_size());
    PlaneWeightLoops<Sum> loops(pass, scratch.mutable_data_ptr<Sum>());
    for (int64_t i : Range{begin, end})
      loops.run(i % shape.C_out, blocking.chunks.at(i / shape.C_out, blocking.bands()),
                all + i * item_taps);
  });
  const int64_t grain = grain_of(product(8, chunks, item_taps));
  at::parallel_for(0, shape.C_out, grain, [&](int64_t begin, int64_t end) {
    for (int64_t c_out : Range{begin, end}) store_taps(pass, all, c_out);
  });
}

template void weight_planes(const Tiles<float, float>&, const ConvShape&,
                            const PlaneWeightBlocking&, const WeightOperands<float>&);
template void weight_planes(const Tiles<double, double>&, const ConvShape&,
                            const PlaneWeightBlocking&, const WeightOperands<double>&);

}  // namespace convgrad::cpu
