#include "cpu/direct/grad_weight.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "cpu/common/scratch.h"
#include "cpu/common/strip.h"
#include "cpu/common/threads.h"

namespace convgrad::cpu {
namespace {

template <typename Sum>
struct WeightPass {
  const Tiles<Sum, Sum>& tiles;
  const ConvShape& shape;
  const WeightBlocking& blocking;
  const WeightOperands<Sum>& operands;
};

// A thread's item over one stretch: packs grad_output, and adds the products of every tap to the item's sums.
template <typename Sum>
class StretchLoops {
 public:
  using Item = WeightSums::Item;

  StretchLoops(const WeightPass<Sum>& pass, int64_t stretch, const Item& item, Sum* scratch)
      : tiles(pass.tiles),
        shape(pass.shape),
        blocking(pass.blocking),
        operands(pass.operands),
        item(item),
        images(pass.blocking.stretches.images_at(stretch, pass.shape)),
        band(pass.blocking.stretches.band_at(stretch, pass.shape)),
        packed(scratch),
        strips(scratch + pass.blocking.packed_size()) {}

  void add_to(Sum* sums) const {
    const Walk h = shape.h.outputs(), w = shape.w.outputs();
    const Strip<Sum> strip(tiles, h, w, band, blocking.strip_channels, operands.input.c == 1);
    const StretchLayout layout = layout_of(strip, h, w);
    StretchRuns runs(band, images.size(), layout);
    if (blocking.packed) pack_grad_output();
    const WeightSums& order = blocking.sums;
    for (int64_t c = item.channels.lo; c < item.channels.hi; c += blocking.tile_channels) {
      const Range channels{c, std::min(c + blocking.tile_channels, item.channels.hi)};
      const Sum* source = source_of(channels, strip, layout);
      for (int64_t block : item.blocks)
        add_block(block, channels, source, layout, runs,
                  sums + (block - item.blocks.lo) * order.block_size() +
                      (c - item.channels.lo) * shape.taps() * order.vector_size());
    }
  }

 private:
  StretchLayout layout_of(const Strip<Sum>& strip, const Walk& h, const Walk& w) const {
    StretchLayout layout{};
    layout.source =
        blocking.copied ? strip.layout(h, w) : SourceLayout::of_tensor(h, w, operands.input);
    layout.grads = blocking.packed
                       ? GradLayout::packed(band, blocking.stretches.pixels(), tiles.lanes)
                       : GradLayout::of_tensor(operands.grad_output, tiles.lanes);
    layout.image_size = blocking.copied ? strip.size() : operands.input.n;
    layout.ys = StretchLayout::by_taps(shape.h, band.ys);
    layout.xs = blocking.tile_taps > 1
                    ? StretchLayout::by_outputs(shape.w, band.xs, blocking.tile_taps)
                    : StretchLayout::by_taps(shape.w, band.xs);
    return layout;
  }

  Sum* packed_block(int64_t block) const {
    return packed +
           (block - item.blocks.lo) * blocking.stretches.pixels() * blocking.sums.vector_size();
  }

  // The stretch's first pixel in the channels of a block.
  const Sum* grads_of(int64_t block) const {
    if (blocking.packed) return packed_block(block);
    const Images<const Sum>& grad_output = operands.grad_output;
    const int64_t c_out = blocking.sums.vectors_of(block).lo * tiles.lanes;
    return grad_output.at(images.lo, item.group * blocking.sums.C_out + c_out) +
           band.ys.lo * grad_output.h + band.xs.lo * grad_output.w;
  }

  // Where channels are adjacent, a few pixels at a time, whose cache lines and pages all vectors share.
  void pack_grad_output() const {
    constexpr int64_t kFewPixels = 16;
    const Images<const Sum>& grad_output = operands.grad_output;
    const bool whole = grad_output.h == grad_output.w * band.xs.size();  // rows without a gap
    const int64_t rows = whole ? 1 : band.ys.size(), pixels = band.pixels() / rows;
    const Blocks some = Blocks::covering(pixels, grad_output.c == 1 ? kFewPixels : pixels);
    for (int64_t n : Range{0, images.size()})
      for (int64_t row : Range{0, rows})
        for (int64_t i : Range{0, some.count})
          for (int64_t block : item.blocks)
            pack_pixels(block, n, row, n * band.pixels() + row * pixels, some.at(i, pixels));
  }

  // Some pixels of a row, whose first one is number `first` of the stretch.
  void pack_pixels(int64_t block, int64_t n, int64_t row, int64_t first, Range pixels) const {
    const Images<const Sum>& grad_output = operands.grad_output;
    const Range vectors = blocking.sums.vectors_of(block);
    for (int64_t v : Range{0, vectors.size()}) {
      const int64_t c_out = (vectors.lo + v) * tiles.lanes;
      const int64_t pixel = v * blocking.stretches.pixels() + first + pixels.lo;
      tiles.pack(
          {.tensor = grad_output.at(images.lo + n, item.group * blocking.sums.C_out + c_out) +
                     (band.ys.lo + row) * grad_output.h + (band.xs.lo + pixels.lo) * grad_output.w,
           .step = grad_output.w,
           .lane_stride = grad_output.c,
           .vectors = packed_block(block) + pixel * tiles.lanes,
           .vector_stride = tiles.lanes,
           .count = pixels.size(),
           .lanes = std::min<int64_t>(tiles.lanes, blocking.sums.C_out - c_out)});
    }
  }

  // The first channel of a tile; a strip is filled when the first of its tiles asks.
  const Sum* source_of(Range channels, const Strip<Sum>& strip, const StretchLayout& layout) const {
    const int64_t first = item.group * blocking.sums.C_in;
    const Images<const Sum>& input = operands.input;
    if (!blocking.copied) return input.at(images.lo, first + channels.lo);
    const int64_t before = (channels.lo - item.channels.lo) % blocking.strip_channels;
    const int64_t left = item.channels.hi - channels.lo;
    if (before == 0)
      for (int64_t n : Range{0, images.size()})
        strip.fill(strips + n * layout.image_size, input,
                   input.at(images.lo + n, first + channels.lo),
                   std::min(blocking.strip_channels, left));
    return strips + before * layout.source.c;
  }

  // All taps of a tile's channels, whose rows are these channels or taps of a row.
  void add_block(int64_t block, Range channels, const Sum* source, const StretchLayout& layout,
                 StretchRuns& runs, Sum* sums) const {
    const int64_t vector_size = blocking.sums.vector_size();
    const bool rows_are_taps = blocking.tile_taps > 1;
    TileArgs<Sum> args{};
    args.a = source;
    args.row_stride = rows_are_taps ? layout.source.t_w[1] - layout.source.t_w[0] : layout.source.c;
    args.b_step = layout.grads.pixel, args.panel_stride = layout.grads.vector;
    args.steps_ahead = kStepsAhead;
    args.acc_stride = rows_are_taps ? vector_size : shape.taps() * vector_size;
    const int64_t vecs = blocking.sums.vectors_of(block).size();
    for (const TapSegment& k_h : layout.ys)
      for (const TapSegment& k_w : layout.xs) {
        const StretchRuns::Steps steps = runs.along(k_h.pixels, k_w.pixels);
        args.runs = steps.runs.data(), args.run_count = steps.runs.size();
        args.length = steps.length;
        if (args.run_count == 0 || args.length == 0) continue;
        args.acc = sums + (k_h.taps.lo * shape.w.K + k_w.taps.lo) * vector_size;
        set_taps(k_h, k_w, layout, grads_of(block), args);
        const int64_t rows = rows_are_taps ? k_w.taps.size() : channels.size();
        if (blocking.packed)
          tiles.tile_for(args.row_stride, vecs, rows)(args);
        else
          tiles.tile[kStepsApart][vecs][rows](args);
      }
  }

  // The first of the taps and its outputs.
  void set_taps(const TapSegment& k_h, const TapSegment& k_w, const StretchLayout& layout,
                const Sum* b, TileArgs<Sum>& args) const {
    const SourceLayout& from = layout.source;
    const int64_t x = k_w.pixels.lo;
    args.from = place(1, from.t_h[k_h.taps.lo], 1, place(1, from.t_w[k_w.taps.lo], x, from.right));
    args.a_step = args.length > 1 ? from.right : 0;  // a run of one has no next place
    args.b = b + (x - band.xs.lo) * args.b_step;
  }

  const Tiles<Sum, Sum>& tiles;
  const ConvShape& shape;
  const WeightBlocking& blocking;
  const WeightOperands<Sum>& operands;
  const Item& item;
  Range images;
  Band band;
  Sum* const packed;  // grad_output
  Sum* const strips;  // of the input
};

template <typename Sum>
void sum_chunk(const WeightPass<Sum>& pass, const WeightSums::Item& item, int64_t chunk,
               Sum* scratch, Sum* sums) {
  const WeightBlocking& blocking = pass.blocking;
  std::fill_n(sums, blocking.sums.item_size(), Sum(0));
  for (int64_t stretch : blocking.chunks.at(chunk, blocking.stretches.count()))
    StretchLoops<Sum>(pass, stretch, item, scratch).add_to(sums);
}

// Chunk after chunk: the first one's sums are the item's, and those of the others are added to them.
template <typename Sum>
void sum_item(const WeightPass<Sum>& pass, const WeightSums::Item& item, Range chunks, Sum* scratch,
              Sum* sums) {
  Sum* const waiting = scratch + pass.blocking.packed_size() + pass.blocking.strip_size();
  for (int64_t chunk : chunks) {
    const bool first = chunk == chunks.lo;
    sum_chunk(pass, item, chunk, scratch, first ? sums : waiting);
    if (!first)
      for (int64_t i : Range{0, pass.blocking.sums.item_size()}) sums[i] += waiting[i];
  }
}

}  // namespace

// First the sums of every item and of every chunk that is computed apart, then the tensor.
template <typename Sum>
void grad_weight_direct(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                        const WeightBlocking& blocking, const WeightOperands<Sum>& operands) {
  const WeightPass<Sum> pass{tiles, shape, blocking, operands};
  const WeightSums& layout = blocking.sums;
  const int64_t items = layout.item_count(), size = blocking.sums_size();
  const int64_t apart = blocking.chunks_of_item(), chunks = blocking.chunks.count;
  const at::Tensor sums = allocate<Sum>(product(apart, size));
  Sum* const all = sums.mutable_data_ptr<Sum>();
  const int64_t work =
      product(layout.item_size(), blocking.chunks.size, blocking.stretches.pixels());
  at::parallel_for(0, items * apart, grain_of(work), [&](int64_t begin, int64_t end) {
    const at::Tensor scratch = allocate<Sum>(blocking.scratch_size());
    for (int64_t i : Range{begin, end}) {
      const int64_t item = i / apart, chunk = i % apart;
      sum_item(pass, layout.item(item),
               blocking.chunks_apart ? Range{chunk, chunk + 1} : Range{0, chunks},
               scratch.mutable_data_ptr<Sum>(), all + chunk * size + item * layout.item_size());
    }
  });
  const int64_t grain = grain_of(product(8, layout.item_size(), apart));
  at::parallel_for(0, items, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i : Range{begin, end}) {
      Sum* const of_item = all + i * layout.item_size();
      const WeightSums::Item item = layout.item(i);
      add_chunks(of_item, layout.item_size(), apart, size);
      for (int64_t block : item.blocks)
        store_block(tiles, layout, item, block, shape,
                    of_item + (block - item.blocks.lo) * layout.block_size(), operands.grad_weight);
    }
  });
}

template void grad_weight_direct(const Tiles<float, float>&, const ConvShape&,
                                 const WeightBlocking&, const WeightOperands<float>&);
template void grad_weight_direct(const Tiles<double, double>&, const ConvShape&,
                                 const WeightBlocking&, const WeightOperands<double>&);

}  // namespace convgrad::cpu
