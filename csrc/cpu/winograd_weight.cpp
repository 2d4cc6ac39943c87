#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "cpu/patches.h"
#include "cpu/weight_sums.h"
#include "cpu/winograd.h"

namespace convgrad::cpu {
namespace {

constexpr int64_t kVecs = 2;                  // of output channels in a tile
constexpr int64_t kScratchBytes = 448 << 10;  // a thread's windows, beside half a MiB of sums
constexpr int64_t kSumsBytes = 448 << 10;     // for further chunks of patches
constexpr int64_t kMostPatches = 128;         // that share a sum in registers
constexpr int64_t kWantedItems = 8;           // whatever the number of threads

// Of either side, that an item computes: sums of half a MiB.
template <typename T>
constexpr int64_t kChannels = sizeof(T) > 4 ? 64 : 96;

// Sixteen products of matrices, one for each number of a window: the rows of a tile are input channels,
// its lanes output channels, and the sum goes over the patches.
template <typename T>
class WinogradWeightLoops {
 public:
  WinogradWeightLoops(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& input,
                      const at::Tensor& grad_output, at::Tensor& grad_weight)
      : tiles(tiles),
        shape(shape),
        input(images_of<T>(input)),
        grad_output(images_of<T>(grad_output)),
        grad_weight(images_of<T>(grad_weight)),
        grid(shape.h.outputs(), shape.w.outputs(), shape.N),
        tile_rows(Blocks::covering(shape.C_in_per_group(), tiles.max_rows(kVecs)).size),
        layout(layout_of_sums()),
        span(patches_of_span()),
        spans(Blocks::covering(grid.count(), span).count),
        chunks(Blocks::covering(spans, spans_of_chunk())),
        sources(tiles, grid, this->input, span) {}

  void run() const {
    if (chunks.count == 1) return run_items();
    const int64_t items = layout.item_count(), size = items * layout.item_size();
    at::Tensor sums = at::empty({chunks.count * size}, dtype());
    T* all = sums.template mutable_data_ptr<T>();
    for_each(items * chunks.count, chunks.size, [&](int64_t i, const Scratch& scratch) {
      sum_item(layout.item(i / chunks.count), chunks.at(i % chunks.count, spans), scratch,
               all + i % chunks.count * size + i / chunks.count * layout.item_size());
    });
    at::parallel_for(0, items, grain_of(8 * layout.item_size() * chunks.count),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i : Range{begin, end}) {
                         T* item_sums = all + i * layout.item_size();
                         layout.add_chunks(item_sums, chunks.count, size);
                         store_item(layout.item(i), item_sums);
                       }
                     });
  }

 private:
  // An item at a time keeps its sums to itself: a large weight's would not fit into the caches.
  void run_items() const {
    for_each(layout.item_count(), spans, [&](int64_t i, const Scratch& scratch) {
      const Item item = layout.item(i);
      sum_item(item, {0, spans}, scratch, scratch.sums);
      store_item(item, scratch.sums);
    });
  }

  template <typename Visit>
  void for_each(int64_t count, int64_t some_spans, const Visit& visit) const {
    const int64_t work = layout.item_size() * some_spans * span;
    at::parallel_for(0, count, grain_of(work), [&](int64_t begin, int64_t end) {
      const at::Tensor memory = at::empty({scratch_size()}, dtype());
      Carver<T> carver{memory.mutable_data_ptr<T>()};
      const Scratch scratch = scratch_in(carver);
      for (int64_t i : Range{begin, end}) visit(i, scratch);
    });
  }

  static constexpr at::ScalarType dtype() { return c10::CppTypeToScalarType<T>::value; }

  using Item = typename WeightSums<T>::Item;

  // What a thread has at hand.
  struct Scratch {
    T *sources, *grads;  // windows
    T *rows, *pixels;    // what they are made from
    T* sums;             // of an item, if there is one chunk
  };

  WeightSums<T> layout_of_sums() const {
    const int64_t C_in = shape.C_in_per_group();
    WeightSums<T> sums{tiles,  shape, Blocks::covering(shape.C_out_per_group(), tiles.lanes).count,
                       {},     {},    {},
                       kWindow};
    sums.outs = Blocks::covering(sums.panels, kVecs);
    const int64_t outs = std::max<int64_t>(1, kChannels<T> / sums.vector_size());
    sums.parts = Blocks::covering(sums.outs.count, outs);
    const int64_t tile_count = Blocks::covering(C_in, tile_rows).count;
    const int64_t some = std::max<int64_t>(1, kChannels<T> / tile_rows);
    const int64_t size = Blocks::covering(tile_count, some).size * tile_rows;
    sums.ins = {Blocks::covering(C_in, size).count, size};
    return sums;
  }

  int64_t outputs_of_item() const { return layout.parts.size * layout.vector_size(); }

  // As many vectors of them as the windows have room for.
  int64_t patches_of_span() const {
    const int64_t bytes = kWindow * (layout.ins.size + outputs_of_item()) * sizeof(T);
    const int64_t fitting = std::min(kScratchBytes / bytes, kMostPatches) / tiles.lanes;
    const int64_t all = Blocks::covering(grid.count(), tiles.lanes).count;
    return std::min(all, std::max<int64_t>(1, fitting)) * tiles.lanes;
  }

  // Where channels make too few items, the patches are split as well, as far as the sums of each chunk
  // may take memory.
  int64_t spans_of_chunk() const {
    const int64_t bytes = layout.item_count() * layout.item_size() * sizeof(T);
    const int64_t possible = 1 + kSumsBytes / bytes;
    const int64_t wanted = Blocks::covering(kWantedItems, layout.item_count()).count;
    return Blocks::covering(spans, std::min(possible, wanted)).count;
  }

  // From number to number of the windows.
  int64_t source_stride() const { return layout.ins.size * span + tiles.lanes; }
  int64_t grad_stride() const { return outputs_of_item() * span; }

  Scratch scratch_in(Carver<T>& carver) const {
    Scratch s;
    s.sources = carver.next(kWindow * source_stride());
    s.grads = carver.next(kWindow * grad_stride());
    s.rows = carver.next(sources.buffer_size());
    s.pixels = carver.next(4 * grid.longest_row(span) * tiles.lanes);
    s.sums = carver.next(chunks.count == 1 ? layout.item_size() : 0);
    return s;
  }
  int64_t scratch_size() const {
    Carver<T> counter;
    scratch_in(counter);
    return counter.used;
  }

  void sum_item(const Item& item, Range some_spans, const Scratch& scratch, T* sums) const {
    const int64_t channel = item.group * shape.C_in_per_group();
    for (int64_t i : some_spans) {
      const Range patches = Range::within(i * span, (i + 1) * span, grid.count());
      const std::vector<PatchRow> rows = grid.rows(patches);
      const auto source_rows = sources.rows_of(rows);
      for (int64_t c : item.channels)
        sources.make(source_rows, channel + c, scratch.sources + (c - item.channels.lo) * span,
                     source_stride(), scratch.rows);
      for (int64_t block : item.blocks)
        for (int64_t panel : layout.outs.at(block, layout.panels))
          make_grads(item.group, panel, rows, scratch,
                     (panel - item.blocks.lo * layout.outs.size) * span * tiles.lanes);
      for (int64_t block : item.blocks)
        add_block(item, block, patches.size(), scratch, sums, i == some_spans.lo);
    }
  }

  // The windows of a vector of output channels, to scratch.grads + at.
  void make_grads(int64_t group, int64_t panel, const std::vector<PatchRow>& rows,
                  const Scratch& scratch, int64_t at) const {
    const int64_t c_out = panel * tiles.lanes, C_out = shape.C_out_per_group();
    for (const PatchRow& row : rows) {
      GradArgs<T> args{{}, scratch.grads + at + row.at * tiles.lanes, grad_stride(), row.count};
      for (int64_t i : {0, 1}) {
        T* pixels = scratch.pixels + i * 2 * row.count * tiles.lanes;
        args.rows[i] = pixels;
        const T* image = grad_output.at(row.n, group * C_out + c_out);
        pack_pixels(row, i, image, std::min<int64_t>(tiles.lanes, C_out - c_out), pixels);
      }
      tiles.window_of_grad(args);
    }
  }

  // The upper or lower pixels of a row of patches, with zeros beyond the image.
  void pack_pixels(const PatchRow& row, int64_t i, const T* image, int64_t lanes, T* pixels) const {
    const int64_t y = grid.h.destination(row.y, i), x = grid.w.destination(row.x, 0);
    const int64_t count = y < shape.h.O ? grid.w.pixels_inside(row.x, row.count) : 0;
    std::fill(pixels + count * tiles.lanes, pixels + 2 * row.count * tiles.lanes, T(0));
    if (count == 0) return;
    tiles.pack({pixels, tiles.lanes, const_cast<T*>(image) + y * grad_output.h + x * grad_output.w,
                grid.w.pixel_step() * grad_output.w, grad_output.c, count, lanes});
  }

  void add_block(const Item& item, int64_t block, int64_t patches, const Scratch& scratch, T* sums,
                 bool fresh) const {
    const Run whole{0, 0};
    TileArgs<T> args{};
    args.runs = &whole, args.run_count = 1, args.length = patches, args.fresh = fresh;
    args.row_stride = span, args.a_step = 1;
    args.b_step = tiles.lanes, args.panel_stride = span * tiles.lanes;
    args.acc_stride = kWindow * layout.vector_size();
    const auto tile = tiles.tile[layout.outs.at(block, layout.panels).size()];
    const int64_t from_lo = block - item.blocks.lo, channels = item.channels.size();
    for (int64_t c = 0; c < channels; c += tile_rows)
      for (int64_t i : Range{0, kWindow}) {
        args.a = scratch.sources + i * source_stride() + c * span;
        args.b = scratch.grads + i * grad_stride() + from_lo * layout.vector_size() * span;
        args.acc = sums + from_lo * layout.block_size() + (c * kWindow + i) * layout.vector_size();
        tile[std::min(tile_rows, channels - c)](args);
      }
  }

  void store_item(const Item& item, T* sums) const {
    for (int64_t block : item.blocks) {
      T* windows = sums + (block - item.blocks.lo) * layout.block_size();
      for (int64_t c : Range{0, item.channels.size()})
        tiles.taps_of_window({windows + c * kWindow * layout.vector_size(),
                              windows + c * shape.taps() * layout.vector_size(),
                              layout.vector_size(), layout.outs.size});
      layout.store_block(item, block, windows, grad_weight);
    }
  }

  const Tiles<T>& tiles;
  const ConvShape& shape;
  Images<const T> input, grad_output;
  Images<T> grad_weight;
  PatchGrid grid;
  int64_t tile_rows;
  WeightSums<T> layout;
  int64_t span;   // patches whose windows are at hand
  int64_t spans;  // how many of them there are
  Blocks chunks;  // of spans
  SourceWindows<T> sources;
};

}  // namespace

// Both ways are counted in vectors of multiply-adds, in numbers that were measured. Each block of
// channels on one side makes the windows of the other side anew.
template <typename T>
bool is_winograd(const Tiles<T>& tiles, const ConvShape& shape) {
  constexpr int64_t kProducts = 19;
  const Walk h = shape.h.outputs(), w = shape.w.outputs();
  if (!PatchGrid::fits(h, w)) return false;
  const PatchGrid grid(h, w, /*images=*/1);
  const int64_t C_in = shape.C_in_per_group();
  const int64_t vectors = Blocks::covering(kFilters, tiles.lanes).count;
  const int64_t grads = grid.w.distance > 1 ? 250 : 110;
  const int64_t windows =
      grid.count() * vectors *
          (kProducts * C_in + grads * Blocks::covering(C_in, kChannels<T>).count) +
      grid.cost_of_windows(tiles.lanes) * C_in * Blocks::covering(kFilters, kChannels<T>).count;
  return windows < h.meetings() * w.meetings() * C_in * vectors;
}

template <typename T>
void grad_weight_winograd(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& input,
                          const at::Tensor& grad_output, at::Tensor& grad_weight) {
  WinogradWeightLoops<T>(tiles, shape, input, grad_output, grad_weight).run();
}

template bool is_winograd(const Tiles<float>&, const ConvShape&);
template bool is_winograd(const Tiles<double>&, const ConvShape&);
template void grad_weight_winograd(const Tiles<float>&, const ConvShape&, const at::Tensor&,
                                   const at::Tensor&, at::Tensor&);
template void grad_weight_winograd(const Tiles<double>&, const ConvShape&, const at::Tensor&,
                                   const at::Tensor&, at::Tensor&);

}  // namespace convgrad::cpu
