#include "cpu/grad_weight.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "cpu/scratch.h"
#include "cpu/stretches.h"
#include "cpu/weight_blocking.h"
#include "cpu/weight_sums.h"
#include "cpu/winograd.h"
#include "cpu/winograd_choice.h"

namespace convgrad::cpu {
namespace {

// A thread's item: a part of the output channels, a block of input channels and some stretches. It
// keeps the sums of all taps while it walks the pixels stretch by stretch.
template <typename T>
class GradWeightLoops {
 public:
  GradWeightLoops(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& input,
                  const at::Tensor& grad_output, at::Tensor& grad_weight)
      : tiles(tiles),
        shape(shape),
        input(images_of<T>(input)),
        grad_output(images_of<T>(grad_output)),
        grad_weight(images_of<T>(grad_weight)),
        blocking(tiles, shape, this->input),
        layout(blocking.sums),
        stretches(blocking.stretches),
        chunks(blocking.chunks) {}

  void run() const {
    const int64_t items = layout.item_count();
    const int64_t size = product(items, layout.item_size());
    const int64_t apart = blocking.chunks_apart ? chunks.count : 1;
    at::Tensor sums = room_for<T>(product(apart, size));
    T* all = sums.template mutable_data_ptr<T>();
    const int64_t work = product(layout.item_size(), chunks.size, stretches.pixels());
    at::parallel_for(0, items * apart, grain_of(work), [&](int64_t begin, int64_t end) {
      const at::Tensor scratch = room_for<T>(scratch_size());
      for (int64_t i : Range{begin, end}) {
        const int64_t item = i / apart, chunk = i % apart;
        const Range some = blocking.chunks_apart ? Range{chunk, chunk + 1} : Range{0, chunks.count};
        sum_item(item, some, scratch.mutable_data_ptr<T>(),
                 all + chunk * size + item * layout.item_size());
      }
    });
    at::parallel_for(0, items, grain_of(product(8, layout.item_size(), apart)),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i : Range{begin, end})
                         store_item(i, all + i * layout.item_size(), apart, size);
                     });
  }

 private:
  int64_t scratch_size() const {
    return blocking.packed_size() + blocking.strip_size(shape) + blocking.waiting_size();
  }

  // Chunk after chunk: the first one's sums are the item's, and those of the others are added to them.
  void sum_item(int64_t item, Range some_chunks, T* scratch, T* sums) const {
    T* waiting = scratch + blocking.packed_size() + blocking.strip_size(shape);
    for (int64_t chunk : some_chunks) {
      const bool first = chunk == some_chunks.lo;
      sum_chunk(item, chunk, scratch, first ? sums : waiting);
      if (!first)
        for (int64_t i : Range{0, layout.item_size()}) sums[i] += waiting[i];
    }
  }

  void sum_chunk(int64_t item, int64_t chunk, T* packed, T* sums) const {
    const auto [group, blocks, channels] = layout.item(item);
    std::fill_n(sums, layout.item_size(), T(0));
    for (int64_t i : chunks.at(chunk, stretches.count())) {
      Stretch<T> stretch = stretch_at(i);
      for (int64_t block : blocks)
        pack_grad_output(group, layout.outs.at(block, layout.panels), stretch,
                         packed + (block - blocks.lo) * stretches.pixels() * layout.vector_size());
      for (int64_t c = channels.lo; c < channels.hi; c += blocking.tile_rows)
        add_tiles(group, {c, std::min(c + blocking.tile_rows, channels.hi)}, blocks, stretch,
                  packed, sums + (c - channels.lo) * shape.taps() * layout.vector_size());
    }
  }

  Stretch<T> stretch_at(int64_t i) const {
    const Walk h = shape.h.outputs(), w = shape.w.outputs();
    const int64_t column = i % stretches.columns.count, row = i / stretches.columns.count;
    const Band band{stretches.rows.at(row % stretches.rows.count, shape.h.O),
                    stretches.columns.at(column, shape.w.O)};
    const Strip<T> strip(tiles, h, w, band);
    return {stretches.images.at(row / stretches.rows.count, shape.N),
            band,
            strip,
            blocking.copied ? strip.layout(h, w) : layout_of_tensor(h, w, input),
            blocking.copied ? strip.channel_size() * blocking.tile_rows : input.n,
            outputs_of_taps(shape.h, band.ys),
            outputs_of_taps(shape.w, band.xs),
            tiles.lanes};
  }

  static std::vector<Range> outputs_of_taps(const Axis& axis, Range within) {
    std::vector<Range> outputs;
    for (int64_t k : Range{0, axis.K}) {
      const Range all = axis.outputs_of_tap(k);
      outputs.push_back(Range::within(std::max(all.lo, within.lo), all.hi, within.hi));
    }
    return outputs;
  }

  void pack_grad_output(int64_t group, Range panel, const Stretch<T>& stretch, T* packed) const {
    const int64_t C_out = shape.C_out_per_group();
    const Band& band = stretch.band;
    const bool whole = grad_output.h == grad_output.w * band.xs.size();  // rows without a gap
    const int64_t rows = whole ? 1 : band.ys.size(), pixels = band.pixels() / rows;
    for (int64_t v : Range{0, panel.size()})
      for (int64_t n : Range{0, stretch.images.size()})
        for (int64_t row : Range{0, rows}) {
          const int64_t c_out = (panel.lo + v) * tiles.lanes;
          const T* from = grad_output.at(stretch.images.lo + n, group * C_out + c_out) +
                          (band.ys.lo + row) * grad_output.h + band.xs.lo * grad_output.w;
          const int64_t pixel = v * stretches.pixels() + n * band.pixels() + row * pixels;
          tiles.pack({packed + pixel * tiles.lanes, tiles.lanes, const_cast<T*>(from),
                      grad_output.w, grad_output.c, pixels,
                      std::min<int64_t>(tiles.lanes, C_out - c_out)});
        }
  }

  // All taps of a tile's channels.
  void add_tiles(int64_t group, Range channels, Range blocks, Stretch<T>& stretch, T* packed,
                 T* sums) const {
    const int64_t channel = group * shape.C_in_per_group() + channels.lo;
    TileArgs<T> args{};
    args.a = input.at(stretch.images.lo, channel);
    if (blocking.copied) {
      T* strip = packed + blocking.packed_size();
      for (int64_t n : Range{0, stretch.images.size()})
        stretch.strip.fill(strip + n * stretch.image_size, input,
                           input.at(stretch.images.lo + n, channel), channels.size());
      args.a = strip;
    }
    args.row_stride = stretch.layout.c;
    args.b_step = tiles.lanes, args.panel_stride = stretches.pixels() * tiles.lanes;
    args.acc_stride = shape.taps() * layout.vector_size();
    for (int64_t block : blocks) {
      args.b = packed + (block - blocks.lo) * stretches.pixels() * layout.vector_size();
      args.acc = sums + (block - blocks.lo) * layout.block_size();
      add_block(args, layout.outs.at(block, layout.panels).size(), channels.size(), stretch);
    }
  }

  void add_block(TileArgs<T> args, int64_t vecs, int64_t rows, Stretch<T>& stretch) const {
    const auto tile = (args.row_stride == 1 ? tiles.tile_of_unit_stride : tiles.tile)[vecs][rows];
    const SourceLayout& from = stretch.layout;
    const T* b = args.b;
    for (int64_t k_h : Range{0, shape.h.K}) {
      const std::vector<Run>& runs = stretch.runs_along(stretch.ys[k_h]);
      args.runs = runs.data(), args.run_count = runs.size();
      for (int64_t k_w : Range{0, shape.w.K}) {
        const Range xs = stretch.xs[k_w];
        args.length = xs.size();
        if (args.run_count > 0 && args.length > 0) {
          args.from = place(1, from.t_h[k_h], 1, place(1, from.t_w[k_w], xs.lo, from.right));
          args.a_step = args.length > 1 ? from.right : 0;  // a run of one has no next place
          args.b = b + (xs.lo - stretch.band.xs.lo) * args.b_step;
          tile(args);
        }
        args.acc += layout.vector_size();
      }
    }
  }

  void store_item(int64_t i, T* sums, int64_t apart, int64_t chunk_size) const {
    layout.add_chunks(sums, apart, chunk_size);
    const auto item = layout.item(i);
    for (int64_t block : item.blocks)
      layout.store_block(item, block, sums + (block - item.blocks.lo) * layout.block_size(),
                         grad_weight);
  }

  const Tiles<T>& tiles;
  const ConvShape& shape;
  Images<const T> input, grad_output;
  Images<T> grad_weight;
  WeightBlocking<T> blocking;
  const WeightSums<T>& layout;
  const Stretches& stretches;
  const Blocks chunks;
};

}  // namespace

template <typename T>
void grad_weight(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& input,
                 const at::Tensor& grad_output, at::Tensor& grad_weight) {
  if (winograd_is_allowed() && is_winograd(tiles, shape))
    return grad_weight_winograd(tiles, shape, input, grad_output, grad_weight);
  GradWeightLoops<T>(tiles, shape, input, grad_output, grad_weight).run();
}

template void grad_weight(const Tiles<float>&, const ConvShape&, const at::Tensor&,
                          const at::Tensor&, at::Tensor&);
template void grad_weight(const Tiles<double>&, const ConvShape&, const at::Tensor&,
                          const at::Tensor&, at::Tensor&);

}  // namespace convgrad::cpu
