#include "cpu/winograd.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "cpu/packing.h"
#include "cpu/patches.h"

namespace convgrad::cpu {
namespace {

constexpr int64_t kVecs = 3;                  // of patches in a tile
constexpr int64_t kWindowsBytes = 448 << 10;  // a thread's windows of sources
constexpr int64_t kSumsBytes = 400 << 10;     // a thread's windows of results
constexpr int64_t kWantedItems = 16;          // whatever the number of threads

// Sums are added to a second one after so many products. The transforms add to the error, about as much
// as these short chains take from it: together it is that of the loops over all taps.
constexpr int64_t kChain = 32;

// The rows of a tile: as many as leave registers for the vectors, and a divisor of the lanes.
template <typename T>
int64_t rows_of_tile(const Tiles<T>& tiles) {
  int64_t rows = 1;
  while (2 * rows <= std::min<int64_t>(tiles.lanes, tiles.max_rows(kVecs))) rows *= 2;
  return rows;
}

// The weight as windows: for each panel of output channels and each number of the window, channel by
// channel, a vector of lanes.
template <typename T>
at::Tensor pack_windows(const Tiles<T>& tiles, const Gather<T>& g) {
  constexpr int64_t kChannels = 16;
  const int64_t L = tiles.lanes, panels = Blocks::covering(g.M, L).count;
  const Blocks blocks = Blocks::covering(g.C, kChannels);
  const int64_t tap = blocks.size * L;
  const PanelOrder order{L, 3 * tap, tap, 9 * tap};
  const WeightPacking<T> packing(tiles, g, order);
  const auto dtype = c10::CppTypeToScalarType<T>::value;
  at::Tensor result = at::empty({g.groups * panels * kWindow * g.C * L}, dtype);
  T* windows = result.mutable_data_ptr<T>();
  const int64_t items = g.groups * panels * blocks.count;
  // Taps are counted from the nearest on.
  const int64_t first_h = PatchAxis(g.h).nearest_tap(), first_w = PatchAxis(g.w).nearest_tap();
  at::parallel_for(0, items, grain_of(24 * order.size), [&](int64_t begin, int64_t end) {
    std::vector<T> taps(order.size), turned(order.size);
    for (int64_t i : Range{begin, end}) {
      const Range channels = blocks.at(i % blocks.count, g.C);
      packing.pack_channels(i / blocks.count, channels, taps.data(), turned.data());
      tiles.window_of_taps({taps.data() + first_h * order.t_h + first_w * order.t_w,
                            first_h > 0 ? -order.t_h : order.t_h,
                            first_w > 0 ? -order.t_w : order.t_w,
                            windows + (i / blocks.count * kWindow * g.C + channels.lo) * L, g.C * L,
                            channels.size()});
    }
  });
  return result;
}

// Sixteen products of matrices, one for each number of a window: the lanes lie along the patches, the
// rows are the destination's channels and the sum goes over the source's channels.
template <typename T>
class WinogradLoops {
 public:
  WinogradLoops(const Tiles<T>& tiles, const Gather<T>& g)
      : tiles(tiles),
        g(g),
        grid(g),
        width(kVecs * tiles.lanes),
        rows(rows_of_tile(tiles)),
        panels(Blocks::covering(Blocks::covering(grid.count(), tiles.lanes).count, kVecs)),
        channels(Blocks::covering(g.C, kWindowsBytes / windows_bytes(1))),
        spans(Blocks::covering(panels.count, panels_of_item())),
        blocks(Blocks::covering(g.M, rows)),
        parts(Blocks::covering(blocks.count, blocks_of_item())),
        windows(tiles, grid, g.source, spans.size * width),
        packed(pack_windows(tiles, g)) {}

  void run() const {
    const int64_t items = g.groups * parts.count * spans.count;
    const int64_t work = kWindow * spans.size * width * g.C * parts.size * rows;
    at::parallel_for(0, items, grain_of(work), [&](int64_t begin, int64_t end) {
      const at::Tensor scratch =
          at::empty({scratch_size()}, c10::CppTypeToScalarType<T>::value);
      for (int64_t i : Range{begin, end})
        run_item(i / spans.count / parts.count, spans.at(i % spans.count, panels.count),
                 parts.at(i / spans.count % parts.count, blocks.count),
                 scratch.mutable_data_ptr<T>());
    });
  }

 private:
  int64_t windows_bytes(int64_t channel_count) const {
    return channel_count * kWindow * width * static_cast<int64_t>(sizeof(T));
  }
  int64_t panels_of_item() const {
    const int64_t fitting = kWindowsBytes / windows_bytes(channels.size);
    const int64_t wanted = g.groups * panels.count / kWantedItems;
    return std::max<int64_t>(1, std::min(fitting, wanted));
  }
  // All of them, unless their sums have to wait for the next block of channels.
  int64_t blocks_of_item() const {
    if (channels.count == 1) return blocks.count;
    return std::max<int64_t>(
        1, kSumsBytes / (spans.size * sums_size() * static_cast<int64_t>(sizeof(T))));
  }

  // In elements: the windows of a thread's patches, the sums of a tile and the pixels of a tile.
  int64_t patches_of_span() const { return spans.size * width; }
  int64_t window_stride() const { return channels.size * patches_of_span() + tiles.lanes; }
  int64_t sums_size() const { return kWindow * rows * width; }
  int64_t pixels_size() const { return rows * 4 * width; }
  int64_t scratch_size() const {
    const int64_t tiles_kept = channels.count == 1 ? 1 : parts.size * spans.size;
    return kWindow * window_stride() + windows.rows_size() + pixels_size() +
           tiles_kept * sums_size();
  }

  Range patches_of(Range some_panels) const {
    const int64_t lanes = panels.size * tiles.lanes;
    return Range::within(some_panels.lo * lanes, some_panels.hi * lanes, grid.count());
  }

  void run_item(int64_t group, Range span, Range part, T* source_windows) const {
    T* buffer = source_windows + kWindow * window_stride();
    T* pixels = buffer + windows.rows_size();
    T* sums = pixels + pixels_size();
    const std::vector<PatchRow> patch_rows = grid.rows(patches_of(span));
    for (int64_t i : Range{0, channels.count}) {
      const Range some = channels.at(i, g.C);
      for (int64_t c : some)
        windows.make(patch_rows, group * g.C + c,
                     source_windows + (c - some.lo) * patches_of_span(), window_stride(), buffer);
      T* tile_sums = sums;
      for (int64_t block : part)
        for (int64_t panel : span) {
          add_tile(group, block, some, patches_of({panel, panel + 1}).size(),
                   source_windows + (panel - span.lo) * panels.size * tiles.lanes, tile_sums);
          if (i + 1 == channels.count)
            store_tile(group, block, patches_of({panel, panel + 1}), tile_sums, pixels);
          if (channels.count > 1) tile_sums += sums_size();
        }
    }
  }

  Range channels_of(int64_t block) const { return blocks.at(block, g.M); }

  void add_tile(int64_t group, int64_t block, Range some, int64_t patches, const T* source_windows,
                T* sums) const {
    const int64_t L = tiles.lanes, panel_count = Blocks::covering(g.M, L).count;
    const Range mine = channels_of(block);
    const T* weight = packed.const_data_ptr<T>() +
                      (group * panel_count + mine.lo / L) * kWindow * g.C * L + mine.lo % L;
    const Run whole{0, 0};
    TileArgs<T> args{};
    args.runs = &whole, args.run_count = 1;
    args.row_stride = 1, args.a_step = L;
    args.b_step = patches_of_span(), args.panel_stride = L;
    args.acc_stride = width;
    const auto tile = tiles.tile_of_unit_stride[Blocks::covering(patches, L).count][mine.size()];
    const Blocks chains = Blocks::covering(some.size(), kChain);
    for (int64_t i : Range{0, kWindow}) {
      args.acc = sums + i * rows * width;
      for (int64_t chain : Range{0, chains.count}) {
        const Range cs = chains.at(chain, some.size());
        args.a = weight + (i * g.C + some.lo + cs.lo) * L;
        args.b = source_windows + i * window_stride() + cs.lo * patches_of_span();
        args.length = cs.size(), args.fresh = some.lo + cs.lo == 0;
        tile(args);
      }
    }
  }

  void store_tile(int64_t group, int64_t block, Range patches, const T* sums, T* pixels) const {
    const Range mine = channels_of(block);
    for (int64_t row : Range{0, mine.size()}) {
      const int64_t channel = group * g.M + mine.lo + row;
      T* upper = pixels + row * 4 * width;
      tiles.patch_of_window({sums + row * width, rows * width,
                             g.bias ? g.bias[channel * g.bias_stride] : T(0),
                             {upper, upper + 2 * width}, patches.size()});
    }
    for (const PatchRow& patch_row : grid.rows(patches))
      for (int64_t i : {0, 1})
        if (grid.h.destination(patch_row.y, i) < g.h.D)
          store_row(patch_row, i, {group * g.M + mine.lo, group * g.M + mine.hi},
                    pixels + i * 2 * width + 2 * patch_row.at);
  }

  // Upper or lower pixels of a row of patches, in all channels of a tile.
  void store_row(const PatchRow& row, int64_t i, Range some_channels, T* pixels) const {
    T* to = g.destination.at(row.n, some_channels.lo) +
            g.h.pixel(grid.h.destination(row.y, i)) * g.destination.h +
            g.w.pixel(grid.w.destination(row.x, 0)) * g.destination.w;
    const int64_t step = grid.w.pixel_step() * g.destination.w;
    const int64_t count = grid.w.pixels_inside(row.x, row.count);
    for (int64_t at = 0; at < count; at += tiles.lanes)
      tiles.unpack({pixels + at, 4 * width, to + at * step, g.destination.c, step,
                    some_channels.size(), std::min<int64_t>(tiles.lanes, count - at)});
  }

  const Tiles<T>& tiles;
  const Gather<T>& g;
  PatchGrid grid;
  int64_t width;    // of a tile, in patches
  int64_t rows;     // of a tile
  Blocks panels;    // of vectors of patches: what a tile takes
  Blocks channels;  // of the source
  Blocks spans;     // of panels, that an item computes
  Blocks blocks;    // of the destination's channels: the rows of a tile
  Blocks parts;     // of blocks, that an item computes
  Windows<T> windows;
  at::Tensor packed;
};

}  // namespace

// What both ways cost, in vectors of multiply-adds, as measured.
template <typename T>
bool is_winograd(const Tiles<T>& tiles, const Gather<T>& g) {
  if (!PatchAxis::fits(g.h) || !PatchAxis::fits(g.w)) return false;
  const int64_t vectors = Blocks::covering(PatchGrid(g).count(), tiles.lanes).count;
  const int64_t products = g.C * g.M;
  const int64_t windows = vectors * (kWindow * products + 150 * g.C + 80 * g.M) + 12 * products;
  const int64_t meetings = g.h.meetings() * g.w.meetings() * g.N;
  const int64_t direct = (meetings / tiles.lanes + 9) * products;
  return 10 * windows < 9 * direct;
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
