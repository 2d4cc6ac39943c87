#include "cpu/depthwise/weight_channels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "cpu/common/chains.h"
#include "cpu/common/prefetch.h"
#include "cpu/common/scratch.h"
#include "cpu/common/threads.h"
#include "geometry/tap_groups.h"
#include "geometry/tap_segments.h"

namespace convgrad::cpu {
namespace {

// A tile's part of a row of grad_output: the pixels that meet some taps, in groups of one size.
struct TapSlide {
  TapGroup taps;
  int64_t pixels;         // of a group
  std::vector<Run> runs;  // of the input and of grad_output: a group each
};

// Adds a group of pixels to the slide that has its taps and its size, or to a new one.
void add_pixels(std::vector<TapSlide>& slides, size_t first, const TapGroup& taps, int64_t pixels,
                const Run& run) {
  const auto fits = [&](const TapSlide& slide) {
    return slide.taps == taps && slide.pixels == pixels &&
           static_cast<int64_t>(slide.runs.size() + 1) * pixels <= kLongestPixelChain;
  };
  const auto found = std::find_if(slides.begin() + static_cast<int64_t>(first), slides.end(), fits);
  if (found != slides.end())
    found->runs.push_back(run);
  else
    slides.push_back({taps, pixels, {run}});
}

std::vector<TapSlide> slides_of_row(const Walk& w, int64_t to_source, int64_t to_grad) {
  std::vector<TapSlide> slides;
  for (const TapSegment& segment : TapSegment::of(w, {0, w.D})) {
    const size_t first = slides.size();
    for (const TapGroup& taps : TapGroup::of(w, segment.taps, kMaxSlideTaps))
      for (const PixelGroup& pixels : PixelGroup::of(w, segment.pixels, kMaxSlideTapsRows))
        add_pixels(slides, first, taps, pixels.rows,
                   {w.source(pixels.first, taps.first_tap) * to_source, pixels.first * to_grad});
  }
  return slides;
}

template <typename Sum>
class ChannelWeightLoops {
 public:
  ChannelWeightLoops(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                     const ChannelWeightBlocking& blocking, const WeightOperands<Sum>& operands)
      : tiles(tiles),
        blocking(blocking),
        operands(operands),
        groups_of_lanes{shape.groups, blocking.C == 1 ? 1 : shape.C_out_per_group(), blocking.C},
        h(shape.h.outputs()),
        w(shape.w.outputs()),
        to_grad(blocking.M == 1 ? operands.grad_output.w : tiles.lanes),
        slides(slides_of_row(w, operands.input.w, to_grad)),
        pixels_apart(TapGroup::pixels_apart(w)) {}

  // The sums of some groups over some rows, as [vectors][m][c][k_h][k_w][lanes]. `grads` has room for a row.
  void run(Range groups, Range rows, Sum* grads, Sum* sums) const {
    std::fill_n(sums, blocking.item_size(), Sum(0));
    const std::vector<ChannelVectors> vectors = ChannelVectors::of(groups, tiles.lanes, 1);
    const std::vector<VectorSources> sources =
        VectorSources::of(groups_of_lanes, vectors, tiles.lanes);
    std::vector<int64_t> columns;
    for (int64_t row : rows) {
      const int64_t n = row / h.D, y = row % h.D;
      const Range taps = h.taps_of(y);
      columns.clear();
      for (int64_t t : taps) columns.push_back(h.source(y, t) * operands.input.h);
      Sum* to = sums + taps.lo * w.T * tiles.lanes;
      for (size_t v = 0; v < vectors.size(); ++v)
        for (int64_t i : Range{0, blocking.M * blocking.C}) {
          const Sum* const grad =
              grad_of_row(n, y, vectors[v].first * blocking.M + i / blocking.C, grads);
          const Source source{operands.input.at(n, sources[v].first), sources[v].index.data(),
                              i % blocking.C};
          for (const TapSlide& slide : slides) add_slide(slide, columns, source, grad, to);
          if (blocking.fetches_rows && y + 1 < h.D) fetch_row(y + 1, source.first, grad);
          to += blocking.taps * tiles.lanes;
        }
    }
  }

  // Adds the chunks of a part, which are `apart` elements from each other, and stores the taps.
  void store(Range groups, Sum* sums, int64_t apart) const {
    add_chunks(sums, blocking.item_size(), blocking.chunks.count, apart);
    const Images<Sum>& grad_weight = operands.grad_weight;
    for (const ChannelVectors& some : ChannelVectors::of(groups, tiles.lanes, 1)) {
      const int64_t skip = std::max<int64_t>(0, groups.lo - some.first);  // lanes of another part
      const int64_t c_out = (some.first + skip) * blocking.M;
      for (int64_t row : Range{0, blocking.M * blocking.C * h.T}) {
        const int64_t i = row / h.T;
        tiles.unpack({.vectors = sums + skip,
                      .vector_stride = tiles.lanes,
                      .tensor = grad_weight.at(c_out + i / blocking.C, i % blocking.C) +
                                row % h.T * grad_weight.h,
                      .step = grad_weight.w,
                      .lane_stride = blocking.M * grad_weight.n,
                      .count = w.T,
                      .lanes = tiles.lanes - skip});
        sums += w.T * tiles.lanes;
      }
    }
  }

 private:
  // The input of a vector, and which of its channels.
  struct Source {
    const Sum* first;
    const int64_t* index;
    int64_t channel;
  };

  // Prefetches what row y reads and row y - 1 does not: vectors of one pixel after the other are too far apart for the
  // processor to see a stream. `grad` is row y - 1 of grad_output.
  void fetch_row(int64_t y, const Sum* source, const Sum* grad) const {
    const auto& [input, grad_output, grad_weight] = operands;
    for (int64_t row : h.new_sources_of(y))
      prefetch_pieces(source + row * input.h, w.S, input.w, tiles.lanes);
    prefetch_pieces(grad + grad_output.h, w.D, grad_output.w, tiles.lanes);
  }

  // A row of grad_output in vectors of groups: in the tensor, or in `grads` where groups are not adjacent there.
  const Sum* grad_of_row(int64_t n, int64_t y, int64_t channel, Sum* grads) const {
    const Images<const Sum>& grad_output = operands.grad_output;
    const Sum* const row = grad_output.at(n, channel) + y * grad_output.h;
    if (blocking.M == 1) return row;
    tiles.pack({.tensor = row,
                .step = grad_output.w,
                .lane_stride = blocking.M * grad_output.c,
                .vectors = grads,
                .vector_stride = tiles.lanes,
                .count = w.D,
                .lanes = tiles.lanes});
    return grads;
  }

  // The columns of a slide are the rows of the kernel: its taps go along a row.
  void add_slide(const TapSlide& slide, const std::vector<int64_t>& columns, const Source& source,
                 const Sum* grad, Sum* sums) const {
    if (slide.taps.count == 0) return;
    SlideTapsArgs<Sum> args{};
    args.source = source.first, args.index = source.index, args.channel = source.channel;
    args.source_stride = place(pixels_apart, place(w.step, operands.input.w));
    args.grad = grad, args.grad_stride = place(pixels_apart, to_grad);
    args.runs = slide.runs.data(), args.run_count = slide.runs.size(), args.length = 1;
    args.acc_column = w.T * tiles.lanes, args.acc_stride = place(slide.taps.tap_step, tiles.lanes);
    const auto all = static_cast<int64_t>(columns.size());
    const Blocks blocks = Blocks::covering(all, tiles.slide_columns(slide.taps.count));
    for (int64_t i : Range{0, blocks.count}) {
      const Range some = blocks.at(i, all);
      args.columns = columns.data() + some.lo;
      args.acc = sums + (some.lo * w.T + slide.taps.first_tap) * tiles.lanes;
      tiles.slide_taps[blocking.C != 1][some.size()][slide.pixels][slide.taps.count](args);
    }
  }

  const Tiles<Sum, Sum>& tiles;
  const ChannelWeightBlocking& blocking;
  const WeightOperands<Sum>& operands;
  const ChannelGroups groups_of_lanes;
  const Walk h, w;
  const int64_t to_grad;  // from pixel to pixel of a row of grad_output
  const std::vector<TapSlide> slides;
  const int64_t pixels_apart;
};

}  // namespace

template <typename Sum>
void weight_channels(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                     const ChannelWeightBlocking& blocking, const WeightOperands<Sum>& operands) {
  const ChannelWeightLoops<Sum> loops(tiles, shape, blocking, operands);
  const int64_t parts = blocking.parts.count, chunks = blocking.chunks.count;
  const int64_t rows = product(shape.N, shape.h.O);
  const at::Tensor sums = allocate<Sum>(blocking.sums_size());
  Sum* const all = sums.mutable_data_ptr<Sum>();
  const int64_t work = product(blocking.item_size(), blocking.chunks.size, shape.w.O);
  at::parallel_for(0, blocking.items(), grain_of(work), [&](int64_t begin, int64_t end) {
    const at::Tensor grads = allocate<Sum>(blocking.scratch_size(shape));
    for (int64_t i : Range{begin, end})
      loops.run(blocking.groups_of(i % parts), blocking.chunks.at(i / parts, rows),
                grads.mutable_data_ptr<Sum>(), all + i * blocking.item_size());
  });
  const int64_t grain = grain_of(product(8, chunks, blocking.item_size()));
  at::parallel_for(0, parts, grain, [&](int64_t begin, int64_t end) {
    for (int64_t part : Range{begin, end})
      loops.store(blocking.groups_of(part), all + part * blocking.item_size(),
                  parts * blocking.item_size());
  });
}

template void weight_channels(const Tiles<float, float>&, const ConvShape&,
                              const ChannelWeightBlocking&, const WeightOperands<float>&);
template void weight_channels(const Tiles<double, double>&, const ConvShape&,
                              const ChannelWeightBlocking&, const WeightOperands<double>&);

}  // namespace convgrad::cpu
