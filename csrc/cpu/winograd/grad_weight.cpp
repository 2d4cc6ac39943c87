#include "cpu/winograd/grad_weight.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "cpu/common/threads.h"

namespace convgrad::cpu {
namespace {

// Sixteen products of matrices, one for each number of a transformed tile: the rows of a register tile are input
// channels, its lanes output channels, and the sum runs over the output tiles.
template <typename Sum>
class WinogradWeightLoops {
 public:
  using Item = WeightSums::Item;
  using Scratch = WinogradWeightScratch<Sum>;

  WinogradWeightLoops(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                      const WinogradWeightBlocking& blocking, const WeightOperands<Sum>& operands)
      : tiles(tiles),
        shape(shape),
        blocking(blocking),
        layout(blocking.sums),
        operands(operands),
        grid(shape.h.outputs(), shape.w.outputs(), shape.N) {}

  void sum_item(const Item& item, Range some_spans, const Scratch& scratch, Sum* sums) const {
    const TransformedSources<Sum> sources(tiles, grid, operands.input, blocking.buffer);
    const int64_t channel = item.group * layout.C_in, span = blocking.span;
    for (int64_t i : some_spans) {
      const Range some_tiles = Range::within(i * span, (i + 1) * span, blocking.tiles);
      const std::vector<TileRow> rows = grid.rows(some_tiles);
      const auto source_rows = sources.rows_of(rows);
      for (int64_t c : item.channels)
        sources.make(source_rows, channel + c, scratch.sources + (c - item.channels.lo) * span,
                     blocking.source_stride(), scratch.rows);
      for (int64_t block : item.blocks)
        for (int64_t vector : layout.vectors_of(block)) make_grads(item, vector, rows, scratch);
      for (int64_t block : item.blocks)
        add_block(item, block, some_tiles.size(), scratch, sums, i == some_spans.lo);
    }
  }

  void store_item(const Item& item, Sum* sums) const {
    for (int64_t block : item.blocks) {
      Sum* const of_block = sums + (block - item.blocks.lo) * layout.block_size();
      for (int64_t c : Range{0, item.channels.size()})
        tiles.restore_taps({.transformed = of_block + c * kNumbers * layout.vector_size(),
                            .taps = of_block + c * shape.taps() * layout.vector_size(),
                            .stride = layout.vector_size(),
                            .count = layout.outs.size});
      store_block(tiles, layout, item, block, shape, of_block, operands.grad_weight);
    }
  }

 private:
  // The transformed tiles of a vector of output channels.
  void make_grads(const Item& item, int64_t vector, const std::vector<TileRow>& rows,
                  const Scratch& scratch) const {
    const int64_t c_out = vector * tiles.lanes, stride = blocking.grad_stride();
    const int64_t from_first = vector - item.blocks.lo * layout.outs.size;
    Sum* const grads = scratch.grads + from_first * blocking.span * tiles.lanes;
    for (const TileRow& row : rows) {
      GradArgs<Sum> args{{}, grads + row.at * tiles.lanes, stride, row.count};
      for (int64_t i : {0, 1}) {
        Sum* const pixels = scratch.pixels + i * 2 * row.count * tiles.lanes;
        args.rows[i] = pixels;
        pack_pixels(row, i, item.group, c_out, pixels);
      }
      tiles.transform_grads(args);
    }
  }

  // The upper or lower pixels of a row of output tiles, with zeros beyond the image.
  void pack_pixels(const TileRow& row, int64_t i, int64_t group, int64_t c_out, Sum* pixels) const {
    const Images<const Sum>& grad_output = operands.grad_output;
    const int64_t y = grid.h.destination(row.y, i), x = grid.w.destination(row.x, 0);
    const int64_t count = y < shape.h.O ? grid.w.pixels_inside(row.x, row.count) : 0;
    std::fill(pixels + count * tiles.lanes, pixels + 2 * row.count * tiles.lanes, Sum(0));
    if (count == 0) return;
    tiles.pack({.tensor = grad_output.at(row.n, group * layout.C_out + c_out) + y * grad_output.h +
                          x * grad_output.w,
                .step = grid.w.pixel_step() * grad_output.w,
                .lane_stride = grad_output.c,
                .vectors = pixels,
                .vector_stride = tiles.lanes,
                .count = count,
                .lanes = std::min<int64_t>(tiles.lanes, layout.C_out - c_out)});
  }

  void add_block(const Item& item, int64_t block, int64_t tile_count, const Scratch& scratch,
                 Sum* sums, bool fresh) const {
    static constexpr Run kWhole{0, 0};
    const int64_t span = blocking.span, from_first = block - item.blocks.lo;
    TileArgs<Sum> args{};
    args.runs = &kWhole, args.run_count = 1, args.length = tile_count, args.fresh = fresh;
    args.row_stride = span, args.a_step = 1;
    args.b_step = tiles.lanes, args.panel_stride = span * tiles.lanes;
    args.acc_stride = kNumbers * layout.vector_size();
    const int64_t vecs = layout.vectors_of(block).size(), channels = item.channels.size();
    for (int64_t c = 0; c < channels; c += blocking.tile_rows)
      for (int64_t i : Range{0, kNumbers}) {
        args.a = scratch.sources + i * blocking.source_stride() + c * span;
        args.b =
            scratch.grads + i * blocking.grad_stride() + from_first * layout.vector_size() * span;
        args.acc =
            sums + from_first * layout.block_size() + (c * kNumbers + i) * layout.vector_size();
        tiles.tile_for(args.row_stride, vecs, std::min(blocking.tile_rows, channels - c))(args);
      }
  }

  const Tiles<Sum, Sum>& tiles;
  const ConvShape& shape;
  const WinogradWeightBlocking& blocking;
  const WeightSums& layout;
  const WeightOperands<Sum>& operands;
  OutputTileGrid grid;
};

// Calls visit(i, scratch) on each 0 <= i < count; a visit takes `spans` spans.
template <typename Sum, typename Visit>
void for_each(const WinogradWeightBlocking& blocking, int64_t count, int64_t spans,
              const Visit& visit) {
  const int64_t work = product(blocking.sums.item_size(), spans, blocking.span);
  at::parallel_for(0, count, grain_of(work), [&](int64_t begin, int64_t end) {
    const at::Tensor memory = allocate<Sum>(WinogradWeightScratch<Sum>::size(blocking));
    ScratchPieces<Sum> pieces{memory.mutable_data_ptr<Sum>()};
    const auto scratch = WinogradWeightScratch<Sum>::in(pieces, blocking);
    for (int64_t i : Range{begin, end}) visit(i, scratch);
  });
}

// Items and chunks at once, and then the sums of each item's chunks in their order.
template <typename Sum>
void run_chunks(const WinogradWeightLoops<Sum>& loops, const WinogradWeightBlocking& blocking) {
  const WeightSums& layout = blocking.sums;
  const Blocks& chunks = blocking.chunks;
  const int64_t items = layout.item_count(), size = blocking.sums_size();
  const at::Tensor memory = allocate<Sum>(product(chunks.count, size));
  Sum* const all = memory.mutable_data_ptr<Sum>();
  for_each<Sum>(blocking, items * chunks.count, chunks.size, [&](int64_t i, const auto& scratch) {
    const int64_t item = i / chunks.count, chunk = i % chunks.count;
    loops.sum_item(layout.item(item), chunks.at(chunk, blocking.spans), scratch,
                   all + chunk * size + item * layout.item_size());
  });
  const int64_t grain = grain_of(product(8, layout.item_size(), chunks.count));
  at::parallel_for(0, items, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i : Range{begin, end}) {
      Sum* const sums = all + i * layout.item_size();
      add_chunks(sums, layout.item_size(), chunks.count, size);
      loops.store_item(layout.item(i), sums);
    }
  });
}

}  // namespace

// With one chunk, an item keeps its sums in scratch: those of a large weight would not fit into the caches.
template <typename Sum>
void grad_weight_winograd(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                          const WinogradWeightBlocking& blocking,
                          const WeightOperands<Sum>& operands) {
  const WinogradWeightLoops<Sum> loops(tiles, shape, blocking, operands);
  if (blocking.chunks.count > 1) return run_chunks(loops, blocking);
  const WeightSums& layout = blocking.sums;
  for_each<Sum>(blocking, layout.item_count(), blocking.spans, [&](int64_t i, const auto& scratch) {
    loops.sum_item(layout.item(i), {0, blocking.spans}, scratch, scratch.sums);
    loops.store_item(layout.item(i), scratch.sums);
  });
}

template void grad_weight_winograd(const Tiles<float, float>&, const ConvShape&,
                                   const WinogradWeightBlocking&, const WeightOperands<float>&);
template void grad_weight_winograd(const Tiles<double, double>&, const ConvShape&,
                                   const WinogradWeightBlocking&, const WeightOperands<double>&);

}  // namespace convgrad::cpu
