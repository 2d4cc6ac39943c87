#include "cpu/winograd/gather.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "cpu/common/threads.h"

namespace convgrad::cpu {
namespace {

// The most products of a chain, whose sum is then added to a second one. Chains this short reduce the error by
// about as much as the transforms add to it, so that it is that of the loops over all taps.
constexpr int64_t kChain = 32;

struct Item {
  int64_t group;
  Range slices, blocks;
};

// Sixteen products of matrices, one for each number of a transformed tile: the lanes are output tiles, the
// rows are the destination's channels and the sum runs over the source's channels.
template <typename Stored, typename Sum>
class WinogradLoops {
 public:
  using Scratch = WinogradScratch<Sum>;

  // `packed` is the transformed weight, unless each item transforms its own.
  WinogradLoops(const Tiles<Stored, Sum>& tiles, const Gather& g,
                const Operands<Stored, Sum>& operands, const WinogradBlocking& blocking,
                const Sum* packed)
      : tiles(tiles),
        g(g),
        operands(operands),
        blocking(blocking),
        packed(packed),
        grid(g.h, g.w, g.N),
        source{g.source, operands.source},
        weight(tiles, g, operands.weight) {}

  void run(const Item& item, const Scratch& scratch) const {
    const TransformedSources<Sum> sources(tiles, grid, source, blocking.buffer);
    const auto rows = sources.rows_of(grid.rows(blocking.tiles_of(item.slices)));
    for (int64_t i : Range{0, blocking.channels.count}) {
      const Range channels = blocking.channels.at(i, g.C);
      for (int64_t c : channels)
        sources.make(rows, item.group * g.C + c,
                     scratch.sources + (c - channels.lo) * blocking.tiles_of_span(),
                     blocking.source_stride(), scratch.rows);
      for (int64_t block : item.blocks) add_slices(item, block, channels, scratch);
    }
  }

 private:
  Sum* sums_of(const Item& item, int64_t block, int64_t slice, const Scratch& scratch) const {
    if (!blocking.sums_wait()) return scratch.sums;
    const int64_t before = (block - item.blocks.lo) * item.slices.size() + slice - item.slices.lo;
    return scratch.sums + before * blocking.sums_size();
  }

  // A block of the destination's channels, in all slices.
  void add_slices(const Item& item, int64_t block, Range channels, const Scratch& scratch) const {
    const Sum* of_block = weight_of(item.group, block, channels, scratch);
    for (int64_t slice : item.slices) {
      const Range some_tiles = blocking.tiles_of({slice, slice + 1});
      const Sum* sources = scratch.sources + (slice - item.slices.lo) * blocking.width;
      Sum* sums = sums_of(item, block, slice, scratch);
      add_slice(channels, channels_of(block).size(), some_tiles.size(), of_block, sources, sums);
      if (channels.hi == g.C) store_slice(item.group, block, some_tiles, sums, scratch.pixels);
    }
  }

  const Sum* weight_of(int64_t group, int64_t block, Range channels, const Scratch& scratch) const {
    const int64_t i = group * blocking.blocks.count + block, stride = blocking.weight_stride(g);
    if (!blocking.one_item) return packed + i * kNumbers * stride + channels.lo * tiles.lanes;
    weight.make(i, channels, scratch.weight, stride, scratch.taps);
    return scratch.weight;
  }

  Range channels_of(int64_t block) const { return blocking.blocks.at(block, g.M); }

  // The weight's lanes are rows of the register tiles.
  void add_slice(Range channels, int64_t rows, int64_t tile_count, const Sum* weights,
                 const Sum* sources, Sum* sums) const {
    static constexpr Run kWhole{0, 0};
    TileArgs<Sum> args{};
    args.runs = &kWhole, args.run_count = 1;
    args.row_stride = 1, args.a_step = tiles.lanes;
    args.b_step = blocking.tiles_of_span(), args.panel_stride = tiles.lanes;
    args.acc_stride = blocking.width;
    const Blocks chains = Blocks::covering(channels.size(), kChain);
    for (int64_t i : Range{0, kNumbers})
      for (int64_t chain : Range{0, chains.count}) {
        const Range some = chains.at(chain, channels.size());
        args.a = weights + i * blocking.weight_stride(g) + some.lo * tiles.lanes;
        args.b = sources + i * blocking.source_stride() + some.lo * blocking.tiles_of_span();
        args.acc = sums + i * blocking.sums_stride();
        args.length = some.size(), args.fresh = channels.lo + some.lo == 0;
        add_rows(args, rows, Blocks::covering(tile_count, tiles.lanes).count);
      }
  }

  // Moves A and the sums: a copy of all arguments for each tile would wait for their stores.
  void add_rows(TileArgs<Sum>& args, int64_t rows, int64_t vecs) const {
    for (int64_t row = 0; row < rows; row += blocking.rows) {
      tiles.tile_for(args.row_stride, vecs, std::min(blocking.rows, rows - row))(args);
      args.a += blocking.rows, args.acc += blocking.rows * blocking.width;
    }
  }

  void store_slice(int64_t group, int64_t block, Range some_tiles, const Sum* sums,
                   Sum* pixels) const {
    const Range rows = channels_of(block);
    const Range channels{group * g.M + rows.lo, group * g.M + rows.hi};
    const int64_t stride = blocking.pixels_stride();
    for (int64_t row : Range{0, rows.size()}) {
      Sum* upper = pixels + row * 2 * stride;
      tiles.restore_outputs({.transformed = sums + row * blocking.width,
                             .transformed_stride = blocking.sums_stride(),
                             .bias = operands.bias ? operands.bias[channels.lo + row] : Sum(0),
                             .rows = {upper, upper + stride},
                             .count = some_tiles.size()});
    }
    for (const TileRow& row : grid.rows(some_tiles))
      for (int64_t i : {0, 1})
        if (grid.h.destination(row.y, i) < g.h.D)
          store_rows(row, i, channels, pixels + i * stride + 2 * row.at);
  }

  // The upper or lower pixels of a row of output tiles, in all channels of a block.
  void store_rows(const TileRow& row, int64_t i, Range channels, const Sum* pixels) const {
    Stored* const to = operands.destination_at(g, row.n, channels.lo) +
                       g.h.pixel(grid.h.destination(row.y, i)) * g.destination.h +
                       g.w.pixel(grid.w.destination(row.x, 0)) * g.destination.w;
    const int64_t step = grid.w.pixel_step() * g.destination.w;
    const int64_t count = grid.w.pixels_inside(row.x, row.count);
    for (int64_t at = 0; at < count; at += tiles.lanes)
      tiles.unpack({.vectors = pixels + at,
                    .vector_stride = 2 * blocking.pixels_stride(),
                    .tensor = to + at * step,
                    .step = g.destination.c,
                    .lane_stride = step,
                    .count = channels.size(),
                    .lanes = std::min<int64_t>(tiles.lanes, count - at)});
  }

  const Tiles<Stored, Sum>& tiles;
  const Gather& g;
  const Operands<Stored, Sum>& operands;
  const WinogradBlocking& blocking;
  const Sum* packed;
  OutputTileGrid grid;
  Images<const Sum> source;
  TransformedWeight<Sum> weight;
};

Item item_at(const WinogradBlocking& blocking, int64_t i) {
  const int64_t spans = blocking.spans.count, parts = blocking.parts.count;
  return {i / spans / parts, blocking.spans.at(i % spans, blocking.slices.count),
          blocking.parts.at(i / spans % parts, blocking.blocks.count)};
}

}  // namespace

template <typename Stored, typename Sum>
void gather_winograd(const Tiles<Stored, Sum>& tiles, const Gather& g,
                     const Operands<Stored, Sum>& operands, const WinogradBlocking& blocking) {
  at::Tensor packed;
  if (!blocking.one_item) packed = TransformedWeight<Sum>(tiles, g, operands.weight).make_all();
  const WinogradLoops<Stored, Sum> loops(tiles, g, operands, blocking,
                                         packed.defined() ? packed.const_data_ptr<Sum>() : nullptr);
  const int64_t items = g.groups * blocking.parts.count * blocking.spans.count;
  const int64_t work = product(blocking.source_stride(), kNumbers, blocking.channels.count,
                               blocking.parts.size, tiles.lanes);
  at::parallel_for(0, items, grain_of(work), [&](int64_t begin, int64_t end) {
    const at::Tensor memory = allocate<Sum>(WinogradScratch<Sum>::size(blocking));
    ScratchPieces<Sum> pieces{memory.mutable_data_ptr<Sum>()};
    const auto scratch = WinogradScratch<Sum>::in(pieces, blocking);
    for (int64_t i : Range{begin, end}) loops.run(item_at(blocking, i), scratch);
  });
}

template void gather_winograd(const Tiles<float, float>&, const Gather&,
                              const Operands<float, float>&, const WinogradBlocking&);
template void gather_winograd(const Tiles<at::BFloat16, float>&, const Gather&,
                              const Operands<at::BFloat16, float>&, const WinogradBlocking&);
template void gather_winograd(const Tiles<double, double>&, const Gather&,
                              const Operands<double, double>&, const WinogradBlocking&);

}  // namespace convgrad::cpu
