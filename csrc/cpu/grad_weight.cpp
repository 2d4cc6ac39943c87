#include "cpu/grad_weight.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <numeric>
#include <vector>

#include "cpu/stretches.h"
#include "cpu/weight_sums.h"
#include "cpu/winograd.h"
#include "cpu/winograd_choice.h"

namespace convgrad::cpu {
namespace {

constexpr int64_t kStretchPixels = 512;
constexpr int64_t kPackedBytes = 256 << 10;      // of grad_output, packed at a time
constexpr int64_t kInputStripBytes = 192 << 10;  // of one tile's input channels, copied at a time
constexpr int64_t kSumsBytes = 512 << 10;        // a thread's second-level sums
constexpr int64_t kWantedItems = 8;  // to share out; a constant, so that the result is too

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
        layout(layout_of_sums()),
        stretches(shape, pixels_of_stretch(),
                  [this](const Blocks& columns, const Blocks& rows) {
                    return strip_bytes(columns, rows) <= kInputStripBytes;
                  }),
        copied(crowded() && strip_bytes(stretches.columns, stretches.rows) <= kInputStripBytes),
        chunks(Blocks::covering(std::max<int64_t>(1, stretches.count()), stretches_per_chunk())) {}

  void run() {
    const int64_t items = layout.item_count();
    const int64_t size = items * layout.item_size();
    const auto dtype = c10::CppTypeToScalarType<T>::value;
    at::Tensor sums = at::empty({chunks.count * size}, dtype);
    T* all = sums.template mutable_data_ptr<T>();
    const int64_t work = layout.item_size() * chunks.size * stretches.pixels();
    at::parallel_for(0, items * chunks.count, grain_of(work), [&](int64_t begin, int64_t end) {
      const at::Tensor scratch = at::empty({scratch_size()}, dtype);
      for (int64_t i : Range{begin, end})
        sum_item(i / chunks.count, i % chunks.count, scratch.mutable_data_ptr<T>(),
                 all + (i % chunks.count) * size + i / chunks.count * layout.item_size());
    });
    at::parallel_for(0, items, grain_of(8 * layout.item_size() * chunks.count),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i : Range{begin, end})
                         store_item(i, all + i * layout.item_size(), size);
                     });
  }

 private:
  // Also sets `tile_rows`.
  WeightSums<T> layout_of_sums() {
    WeightSums<T> sums{
        tiles, shape,       Blocks::covering(shape.C_out_per_group(), tiles.lanes).count, {}, {},
        {},    shape.taps()};
    sums.outs = Blocks::covering(sums.panels, shape.C_in_per_group() <= 7 ? 4 : 2);
    tile_rows = Blocks::covering(shape.C_in_per_group(), tiles.max_rows(sums.outs.size)).size;
    const int64_t wanted = items_of_channels(sums);
    sums.parts = Blocks::covering(sums.outs.count, outs_of_part(sums, wanted));
    sums.ins = input_blocks(sums, wanted);
    return sums;
  }

  int64_t packed_size() const {
    return layout.parts.size * stretches.pixels() * layout.vector_size();
  }
  int64_t scratch_size() const {
    const int64_t strip = copied ? strip_bytes(stretches.columns, stretches.rows) / sizeof(T) : 0;
    return packed_size() + strip * stretches.images.size;
  }

  // Whether the rows of a tile, which are channels, push each other out of the first cache: it finds
  // a line by its address modulo 4096 bytes, and holds few lines of the same one.
  bool crowded() const {
    constexpr int64_t kModulus = 4096, kLines = 4;
    const int64_t step = input.c * static_cast<int64_t>(sizeof(T));
    return tile_rows * std::gcd(step, kModulus) > kLines * kModulus;
  }

  // How many items the channels have to make. Those of several chunks of pixels come cheaper, but
  // each chunk has sums of its own.
  int64_t items_of_channels(const WeightSums<T>& sums) const {
    const int64_t bytes = shape.groups * sums.outs.count * sums.vector_size() *
                          shape.C_in_per_group() * shape.taps() * static_cast<int64_t>(sizeof(T));
    const int64_t pixels = shape.N * shape.output_pixels();
    const int64_t possible = std::min(kSumsBytes / bytes, pixels / kStretchPixels);
    return Blocks::covering(kWantedItems, std::max<int64_t>(1, possible)).count;
  }

  // A stretch of the input is fetched, and maybe copied, for all taps and all output channels of a
  // part: the fewer taps, the more channels.
  int64_t outs_of_part(const WeightSums<T>& sums, int64_t wanted_items) const {
    constexpr int64_t kProducts = 1152;  // of each pixel that is fetched
    const int64_t lanes = std::min<int64_t>(512, kProducts / shape.taps());
    const int64_t sharing = shape.groups * sums.outs.count / wanted_items;
    return std::max<int64_t>(1, std::min(lanes / sums.vector_size(), sharing));
  }

  int64_t pixels_of_stretch() const {
    const int64_t fitting = kPackedBytes / (layout.parts.size * layout.vector_size() * sizeof(T));
    return std::min(kStretchPixels, fitting);
  }

  int64_t strip_bytes(const Blocks& columns, const Blocks& rows) const {
    const int64_t channel =
        Strip<T>::largest_channel(shape.h.outputs(), shape.w.outputs(), rows.size, columns.size);
    return channel * tile_rows * static_cast<int64_t>(sizeof(T));
  }

  // Input channels in blocks of whole tiles whose sums fit, and in several blocks if that is what it
  // takes to have enough items.
  Blocks input_blocks(const WeightSums<T>& sums, int64_t wanted_items) const {
    const int64_t C = shape.C_in_per_group(), tile_count = (C + tile_rows - 1) / tile_rows;
    const int64_t tile_bytes =
        sums.parts.size * tile_rows * shape.taps() * sums.vector_size() * sizeof(T);
    const int64_t fitting = std::max<int64_t>(1, kSumsBytes / tile_bytes);
    const int64_t wanted = Blocks::covering(wanted_items, shape.groups * sums.parts.count).count;
    const int64_t per_block = std::min(fitting, (tile_count + wanted - 1) / wanted);
    const int64_t size = Blocks::covering(tile_count, per_block).size * tile_rows;
    return {(C + size - 1) / size, size};
  }

  // Where channels make too few items, the pixels are split too, unless the sums of the further chunks
  // would take too much.
  int64_t stretches_per_chunk() const {
    const int64_t items = layout.item_count();
    const int64_t bytes = items * layout.item_size() * static_cast<int64_t>(sizeof(T));
    const int64_t wanted = (kWantedItems + items - 1) / items;
    const int64_t count = std::min(wanted, 1 + kSumsBytes / bytes);
    return std::max<int64_t>(1, (stretches.count() + count - 1) / count);
  }

  void sum_item(int64_t item, int64_t chunk, T* packed, T* sums) const {
    const auto [group, blocks, channels] = layout.item(item);
    std::fill_n(sums, layout.item_size(), T(0));
    for (int64_t i : chunks.at(chunk, stretches.count())) {
      Stretch<T> stretch = stretch_at(i);
      for (int64_t block : blocks)
        pack_grad_output(group, layout.outs.at(block, layout.panels), stretch,
                         packed + (block - blocks.lo) * stretches.pixels() * layout.vector_size());
      for (int64_t c = channels.lo; c < channels.hi; c += tile_rows)
        add_tiles(group, {c, std::min(c + tile_rows, channels.hi)}, blocks, stretch, packed,
                  sums + (c - channels.lo) * shape.taps() * layout.vector_size());
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
            copied ? strip.layout(h, w) : layout_of_tensor(h, w, input),
            copied ? strip.channel_size() * tile_rows : input.n,
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
    if (copied) {
      T* strip = packed + packed_size();
      for (int64_t n : Range{0, stretch.images.size()})
        stretch.strip.fill(strip + n * stretch.image_size, input,
                           input.at(stretch.images.lo + n, channel), channels.size());
      args.a = strip;
    }
    args.row_stride = stretch.layout.c, args.a_step = stretch.layout.right;
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
    const T *a = args.a, *b = args.b - stretch.band.xs.lo * args.b_step;
    for (int64_t k_h : Range{0, shape.h.K}) {
      const std::vector<Run>& runs = stretch.runs_along(stretch.ys[k_h]);
      args.runs = runs.data(), args.run_count = runs.size();
      for (int64_t k_w : Range{0, shape.w.K}) {
        const Range xs = stretch.xs[k_w];
        args.a = a + from.t_h[k_h] + from.t_w[k_w] + xs.lo * args.a_step;
        args.b = b + xs.lo * args.b_step, args.length = xs.size();
        if (args.run_count > 0 && args.length > 0) tile(args);
        args.acc += layout.vector_size();
      }
    }
  }

  void store_item(int64_t i, T* sums, int64_t chunk_size) const {
    layout.add_chunks(sums, chunks.count, chunk_size);
    const auto item = layout.item(i);
    for (int64_t block : item.blocks)
      layout.store_block(item, block, sums + (block - item.blocks.lo) * layout.block_size(),
                         grad_weight);
  }

  const Tiles<T>& tiles;
  const ConvShape& shape;
  Images<const T> input, grad_output;
  Images<T> grad_weight;
  int64_t tile_rows;
  WeightSums<T> layout;
  Stretches stretches;
  bool copied;    // whether the tiles read copies of the input
  Blocks chunks;  // of stretches
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
