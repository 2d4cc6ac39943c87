#include "cpu/winograd.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "cpu/patch_blocking.h"
#include "cpu/patches.h"
#include "cpu/weight_windows.h"

namespace convgrad::cpu {
namespace {

// Sums are added to a second one after so many products. The transforms add to the error, about as much
// as these short chains take from it: together it is that of the loops over all taps.
constexpr int64_t kChain = 32;

// Sixteen products of matrices, one for each number of a window: the lanes lie along the patches, the
// rows are the destination's channels and the sum goes over the source's channels.
template <typename T>
class WinogradLoops {
 public:
  WinogradLoops(const Tiles<T>& tiles, const Gather<T>& g)
      : tiles(tiles),
        g(g),
        grid(g.h, g.w, g.N),
        blocking(tiles, g, grid.count()),
        sources(tiles, grid, g.source, blocking.patches_of_span()),
        weight(tiles, g) {
    if (!blocking.alone) packed = weight.make_all();
  }

  void run() const {
    const int64_t parts = blocking.parts.count, spans = blocking.spans.count;
    const int64_t work =
        source_stride() * kWindow * blocking.channels.count * blocking.parts.size * tiles.lanes;
    at::parallel_for(0, g.groups * parts * spans, grain_of(work), [&](int64_t begin, int64_t end) {
      const at::Tensor memory = at::empty({scratch_size()}, c10::CppTypeToScalarType<T>::value);
      Carver<T> carver{memory.mutable_data_ptr<T>()};
      const Scratch scratch = scratch_in(carver);
      for (int64_t i : Range{begin, end})
        run_item({i / spans / parts, blocking.spans.at(i % spans, blocking.panels.count),
                  blocking.parts.at(i / spans % parts, blocking.blocks.count)},
                 scratch);
    });
  }

 private:
  struct Item {
    int64_t group;
    Range panels, blocks;
  };

  // What a thread has at hand.
  struct Scratch {
    T *sources, *weight, *sums;  // windows
    T *rows, *taps, *pixels;     // what they are made from, and made into
  };

  // From number to number of the windows.
  int64_t source_stride() const {
    return blocking.channels.size * blocking.patches_of_span() + tiles.lanes;
  }
  int64_t weight_stride() const {
    return (blocking.alone ? blocking.channels.size : g.C) * tiles.lanes;
  }
  int64_t sums_stride() const { return tiles.lanes * blocking.width; }
  int64_t pixels_stride() const { return 2 * blocking.width; }  // from row to row of pixels

  Scratch scratch_in(Carver<T>& carver) const {
    Scratch s;
    s.sources = carver.next(kWindow * source_stride());
    s.weight = carver.next(blocking.alone ? kWindow * weight_stride() : 0);
    s.sums = carver.next(blocking.sums_size() *
                         (blocking.sums_wait() ? blocking.parts.size * blocking.spans.size : 1));
    s.rows = carver.next(sources.buffer_size());
    s.taps = carver.next(blocking.alone ? weight.buffer_size() : 0);
    s.pixels = carver.next(tiles.lanes * 2 * pixels_stride());
    return s;
  }
  int64_t scratch_size() const {
    Carver<T> counter;
    scratch_in(counter);
    return counter.used;
  }

  Range patches_of(Range panels) const {
    return Range::within(panels.lo * blocking.width, panels.hi * blocking.width, grid.count());
  }

  void run_item(const Item& item, const Scratch& scratch) const {
    const auto rows = sources.rows_of(grid.rows(patches_of(item.panels)));
    for (int64_t i : Range{0, blocking.channels.count}) {
      const Range channels = blocking.channels.at(i, g.C);
      for (int64_t c : channels)
        sources.make(rows, item.group * g.C + c,
                     scratch.sources + (c - channels.lo) * blocking.patches_of_span(),
                     source_stride(), scratch.rows);
      for (int64_t block : item.blocks) add_panels(item, block, channels, scratch);
    }
  }

  T* sums_of(const Item& item, int64_t block, int64_t panel, const Scratch& scratch) const {
    if (!blocking.sums_wait()) return scratch.sums;
    const int64_t before = (block - item.blocks.lo) * item.panels.size() + panel - item.panels.lo;
    return scratch.sums + before * blocking.sums_size();
  }

  // A block of the destination's channels, in all panels.
  void add_panels(const Item& item, int64_t block, Range channels, const Scratch& scratch) const {
    const int64_t i = item.group * blocking.blocks.count + block;
    if (blocking.alone) weight.make(i, channels, scratch.weight, weight_stride(), scratch.taps);
    const T* windows = blocking.alone ? scratch.weight
                                      : packed.const_data_ptr<T>() + i * kWindow * weight_stride() +
                                            channels.lo * tiles.lanes;
    for (int64_t panel : item.panels) {
      const Range patches = patches_of({panel, panel + 1});
      const T* panel_sources = scratch.sources + (panel - item.panels.lo) * blocking.width;
      T* sums = sums_of(item, block, panel, scratch);
      add_panel(channels, {channels_of(block).size(), patches.size()}, windows, panel_sources,
                sums);
      if (channels.hi == g.C) store_panel(item.group, block, patches, sums, scratch.pixels);
    }
  }

  Range channels_of(int64_t block) const { return blocking.blocks.at(block, g.M); }

  struct Extent {
    int64_t rows, patches;
  };

  // The weight's lanes are rows of the tiles.
  void add_panel(Range channels, Extent extent, const T* weight_windows, const T* source_windows,
                 T* sums) const {
    const Run whole{0, 0};
    TileArgs<T> args{};
    args.runs = &whole, args.run_count = 1;
    args.row_stride = 1, args.a_step = tiles.lanes;
    args.b_step = blocking.patches_of_span(), args.panel_stride = tiles.lanes;
    args.acc_stride = blocking.width;
    const Blocks chains = Blocks::covering(channels.size(), kChain);
    for (int64_t i : Range{0, kWindow})
      for (int64_t chain : Range{0, chains.count}) {
        const Range some = chains.at(chain, channels.size());
        args.a = weight_windows + i * weight_stride() + some.lo * tiles.lanes;
        args.b = source_windows + i * source_stride() + some.lo * blocking.patches_of_span();
        args.acc = sums + i * sums_stride();
        args.length = some.size(), args.fresh = channels.lo + some.lo == 0;
        add_tiles(args, extent);
      }
  }

  void add_tiles(TileArgs<T> args, Extent extent) const {
    const auto tile =
        tiles.tile_of_unit_stride[Blocks::covering(extent.patches, tiles.lanes).count];
    for (int64_t row = 0; row < extent.rows; row += blocking.rows) {
      tile[std::min(blocking.rows, extent.rows - row)](args);
      args.a += blocking.rows, args.acc += blocking.rows * blocking.width;
    }
  }

  void store_panel(int64_t group, int64_t block, Range patches, const T* sums, T* pixels) const {
    const Range rows = channels_of(block);
    const Range channels{group * g.M + rows.lo, group * g.M + rows.hi};
    for (int64_t row : Range{0, rows.size()}) {
      T* upper = pixels + row * 2 * pixels_stride();
      const T bias = g.bias ? g.bias[(channels.lo + row) * g.bias_stride] : T(0);
      tiles.patch_of_window({sums + row * blocking.width,
                             sums_stride(),
                             bias,
                             {upper, upper + pixels_stride()},
                             patches.size()});
    }
    for (const PatchRow& row : grid.rows(patches))
      for (int64_t i : {0, 1})
        if (grid.h.destination(row.y, i) < g.h.D)
          store_row(row, i, channels, pixels + i * pixels_stride() + 2 * row.at);
  }

  // The upper or lower pixels of a row of patches, in all channels of a block.
  void store_row(const PatchRow& row, int64_t i, Range channels, T* pixels) const {
    T* to = g.destination.at(row.n, channels.lo) +
            g.h.pixel(grid.h.destination(row.y, i)) * g.destination.h +
            g.w.pixel(grid.w.destination(row.x, 0)) * g.destination.w;
    const int64_t step = grid.w.pixel_step() * g.destination.w;
    const int64_t count = grid.w.pixels_inside(row.x, row.count);
    for (int64_t at = 0; at < count; at += tiles.lanes)
      tiles.unpack({pixels + at, 2 * pixels_stride(), to + at * step, g.destination.c, step,
                    channels.size(), std::min<int64_t>(tiles.lanes, count - at)});
  }

  const Tiles<T>& tiles;
  const Gather<T>& g;
  PatchGrid grid;
  PatchBlocking<T> blocking;
  SourceWindows<T> sources;
  WeightWindows<T> weight;
  at::Tensor packed;  // the weight's windows, unless each of them is for one item alone
};

}  // namespace

// Both ways are counted in vectors of multiply-adds, in numbers that were measured: those of windows
// run at five sixths of the speed of longer sums; packing, the calls of tiles and storing cost about as
// many.
template <typename T>
bool is_winograd(const Tiles<T>& tiles, const Gather<T>& operands) {
  constexpr int64_t kProducts = 19, kWindows = 24, kPacking = 12;
  constexpr int64_t kTiles = 320, kPatches = 80, kPixels = 20;
  if (!PatchGrid::fits(operands.h, operands.w)) return false;
  Gather<T> g = operands;
  g.N = 1;
  (g.filters_are_lanes ? g.M : g.C) = kFilters;
  const PatchGrid grid(g.h, g.w, g.N);
  const int64_t patches = Blocks::covering(grid.count(), tiles.lanes).count;
  const int64_t blocks = Blocks::covering(g.M, tiles.lanes).count;
  const int64_t windows = (patches * kProducts + kWindows) * g.C * g.M +
                          grid.cost_of_windows(tiles.lanes) * g.C +
                          patches * (kTiles * blocks + kPatches * g.M);
  const int64_t meetings = g.h.meetings() * g.w.meetings() * g.N / tiles.lanes;
  const int64_t pixels = g.h.D * g.w.D * g.N / tiles.lanes;
  return windows < (meetings + kPacking) * g.C * blocks * tiles.lanes + pixels * kPixels * g.M;
}

template <typename T>
void gather_winograd(const Tiles<T>& tiles, const Gather<T>& g) {
  WinogradLoops<T>(tiles, g).run();
}

template bool is_winograd(const Tiles<float>&, const Gather<float>&);
template bool is_winograd(const Tiles<double>&, const Gather<double>&);
template void gather_winograd(const Tiles<float>&, const Gather<float>&);
template void gather_winograd(const Tiles<double>&, const Gather<double>&);

}  // namespace convgrad::cpu
