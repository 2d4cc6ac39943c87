#include "cpu/pointwise.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "cpu/chains.h"
#include "cpu/pixel_rows.h"
#include "cpu/scratch.h"

namespace convgrad::cpu {
namespace {

constexpr int64_t kVecs = 2;                // of pixels in a tile
constexpr int64_t kStripBytes = 320 << 10;  // of the source, copied at a time; or one panel,
constexpr int64_t kPanelBytes = 768 << 10;  // which is at most so large
constexpr int64_t kWantedItems = 8;         // whatever the number of threads

// One tap makes the pass a product of matrices: the lanes lie along the pixels, and neither they nor
// the results have to be turned. The rows are the destination's channels.
template <typename T>
class PointwiseLoops {
 public:
  PointwiseLoops(const Tiles<T>& tiles, const Gather<T>& g)
      : tiles(tiles),
        g(g),
        pixels(g),
        width(kVecs * tiles.lanes),
        row_blocks(Blocks::covering(g.M, tiles.max_rows(kVecs))),
        row_width(Blocks::covering(row_blocks.size, tiles.lanes).count * tiles.lanes),
        channels(Chains(g.C, 1, 1).channels),
        panels(Blocks::covering(panel_count(),
                                std::max<int64_t>(1, kStripBytes / panel_bytes(tiles, g)))),
        parts(Blocks::covering(row_blocks.count, blocks_of_part())),
        in_place(pixels.source_step() == 1 && lies_well()),
        packed(pack_weight()) {}

  static int64_t panel_bytes(const Tiles<T>& tiles, const Gather<T>& g) {
    return product(g.C + tiles.max_rows(kVecs), kVecs, tiles.lanes, sizeof(T));
  }

  void run() const {
    const int64_t items = g.groups * panels.count * parts.count;
    const int64_t work = product(panels.size, width, g.C, parts.size, row_blocks.size);
    at::parallel_for(0, items, grain_of(work), [&](int64_t begin, int64_t end) {
      const int64_t size = panels.size * panel_size() + row_blocks.size * width;
      const at::Tensor scratch = room_for<T>(size);
      run_items({begin, end}, scratch.mutable_data_ptr<T>());
    });
  }

 private:
  int64_t block_size() const { return g.C * row_width; }
  // A channel more: at a multiple of a page, panels would meet in one set of the cache.
  int64_t panel_size() const { return (g.C + 1) * width; }

  int64_t blocks_of_part() const {
    return Blocks::covering(row_blocks.count * g.groups * panels.count, kWantedItems).count;
  }

  // Channel by channel, the weights of a tile's rows beside each other.
  at::Tensor pack_weight() const {
    at::Tensor result = room_for<T>(product(g.groups, row_blocks.count, block_size()));
    T* blocks = result.mutable_data_ptr<T>();
    const T* weight = g.weight.data + g.h.tap(0) * g.weight.h + g.w.tap(0) * g.weight.w;
    const int64_t grain = grain_of(8 * block_size());
    at::parallel_for(0, g.groups * row_blocks.count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i : Range{begin, end}) {
        const Range rows = row_blocks.at(i % row_blocks.count, g.M);
        const T* from = weight + i / row_blocks.count * g.weight_of_group;
        for (int64_t row = 0; row < rows.size(); row += tiles.lanes)
          tiles.pack({blocks + i * block_size() + row, row_width,
                      const_cast<T*>(from) + (rows.lo + row) * g.weight.n, g.weight.c, g.weight.n,
                      g.C, std::min<int64_t>(tiles.lanes, rows.size() - row)});
      }
    });
    return result;
  }

  using Segments = std::vector<std::vector<Segment>>;  // of each panel

  // Whether a tile can read whole panels of the image: vectors lie within lines of the cache, and the
  // channels do not crowd into few places of it.
  bool lies_well() const {
    constexpr int64_t kLine = 64, kModulus = 1 << 16, kLines = 4;
    const int64_t step = g.source.c * static_cast<int64_t>(sizeof(T));
    return step % kLine == 0 && g.C * std::gcd(step, kModulus) <= kLines * kModulus;
  }

  // Part by part: threads then share out the channels evenly where the panels are few.
  void run_items(Range items, T* strip) const {
    const int64_t strips = g.groups * panels.count;
    for (int64_t i : items)
      run_panels(i % strips, parts.at(i / strips, row_blocks.count), i + 1 < items.hi, strip);
  }

  // While they are computed, what will be copied for the next ones is fetched.
  void run_panels(int64_t index, Range blocks, bool more, T* strip) const {
    const int64_t group = index / panels.count;
    const Segments segments = segments_of(index % panels.count);
    fill_strip(copies_of(segments), group * g.C, strip);
    std::vector<Copy> next;
    if (more && (index + 1) / panels.count == group)
      next = copies_of(segments_of((index + 1) % panels.count));
    const Blocks shares{blocks.size(), Blocks::covering(g.C, blocks.size()).count};
    for (int64_t block : blocks) {
      run_block(group, block, segments, strip);
      fetch(next, group * g.C, shares.at(block - blocks.lo, g.C));
    }
  }

  Segments segments_of(int64_t panel_block) const {
    Segments segments;
    for (int64_t panel : panels.at(panel_block, panel_count()))
      segments.push_back(
          pixels.segments(Range::within(panel * width, (panel + 1) * width, pixels.count())));
    return segments;
  }

  void run_block(int64_t group, int64_t block, const Segments& segments, T* strip) const {
    T* sums = strip + panels.size * panel_size();
    for (size_t panel = 0; panel < segments.size(); ++panel)
      run_tile(group, block, segments[panel], strip + panel * panel_size(), sums);
  }

  int64_t panel_count() const { return Blocks::covering(pixels.count(), width).count; }

  // Straight into the destination where the tile's vectors are pixels that follow each other there.
  void run_tile(int64_t group, int64_t block, const std::vector<Segment>& segments, const T* strip,
                T* sums) const {
    const Range rows = row_blocks.at(block, g.M);
    const int64_t channel = group * g.M + rows.lo;
    const Source<T> source = pixels.source(segments.front());
    const bool whole = source.count == width;  // the panel is one row of pixels inside the image
    const bool straight = whole && pixels.is_gapless() && !g.bias;
    T* acc = straight ? pixels.destination(segments.front(), channel) : sums;
    const int64_t acc_stride = straight ? g.destination.c : width;
    const int64_t pixel_count = segments.back().at + segments.back().xs.size();
    const bool there = in_place && whole;
    const Panel panel{there ? source.from + group * g.C * g.source.c : strip,
                      there ? g.source.c : width};
    if (straight) fetch_results(acc, rows.size());
    add_tile(group * row_blocks.count + block, {rows.size(), pixel_count}, panel, acc, acc_stride);
    if (straight) return;
    for (int64_t row : Range{0, rows.size()}) {
      const T bias = g.bias ? g.bias[(channel + row) * g.bias_stride] : T(0);
      for (const Segment& s : segments)
        pixels.copy_out(s, channel + row, bias, sums + row * width + s.at);
    }
  }

  // Brings their lines near, so that the tile's last steps, which store, do not wait for memory.
  void fetch_results(const T* acc, int64_t rows) const {
    for (int64_t row : Range{0, rows})
      for (int64_t v : Range{0, kVecs})
        __builtin_prefetch(acc + row * g.destination.c + v * tiles.lanes, 1);
  }

  // What a strip takes of channel 0: whole panels that follow each other in the image, or some pixels of
  // one panel. Without `from`, zeros.
  struct Copy {
    const T* from;
    int64_t to, panels, count;
  };

  std::vector<Copy> copies_of(const Segments& segments) const {
    std::vector<Copy> copies;
    int64_t to = 0;
    for (const std::vector<Segment>& panel : segments) {
      for (const Segment& s : panel) add_copies(s, to, copies);
      const int64_t end = panel.back().at + panel.back().xs.size();
      if (end < width) copies.push_back({nullptr, to + end, 0, width - end});
      to += panel_size();
    }
    return copies;
  }

  void add_copies(const Segment& s, int64_t panel, std::vector<Copy>& copies) const {
    const Source<T> source = pixels.source(s);
    const int64_t to = panel + s.at, after = source.before + source.count;
    if (source.count == width && pixels.source_step() == 1) {
      const bool follows = !copies.empty() && copies.back().panels > 0 &&
                           copies.back().from + copies.back().panels * width == source.from;
      if (follows)
        ++copies.back().panels;
      else
        copies.push_back({source.from, to, 1, 0});
      return;
    }
    if (source.before > 0) copies.push_back({nullptr, to, 0, source.before});
    if (source.count > 0) copies.push_back({source.from, to + source.before, 0, source.count});
    if (after < s.xs.size()) copies.push_back({nullptr, to + after, 0, s.xs.size() - after});
  }

  // Panel by panel, each channel's pixels in vectors; but read channel by channel, as they lie.
  void fill_strip(const std::vector<Copy>& copies, int64_t channel, T* strip) const {
    for (int64_t c : Range{0, g.C})
      for (const Copy& copy : copies) {
        T* to = strip + copy.to + c * width;
        if (!copy.from)
          std::fill_n(to, copy.count, T(0));
        else if (copy.panels > 0 && !in_place)
          copy_panels(copy, copy.from + (channel + c) * g.source.c, to);
        else if (copy.panels == 0)
          copy_pixels(copy.from + (channel + c) * g.source.c, copy.count, to);
      }
  }

  void copy_panels(const Copy& copy, const T* from, T* to) const {
    const int64_t L = tiles.lanes;
    for (int64_t v : Range{0, kVecs})
      tiles.pack(
          {to + v * L, panel_size(), const_cast<T*>(from) + v * L, width, 1, copy.panels, L});
  }

  // Brings what will be copied of some channels into the second cache. They lie pages apart: the
  // processor would not fetch them ahead by itself.
  void fetch(const std::vector<Copy>& copies, int64_t channel, Range channels) const {
    const int64_t step = pixels.source_step();
    const int64_t next =
        std::max<int64_t>(step, 64 / sizeof(T));  // line by line, if pixels share lines
    for (int64_t c : channels)
      for (const Copy& copy : copies) {
        if (!copy.from) continue;
        const int64_t size = (copy.panels * width + copy.count) * step;
        const T* from = copy.from + (channel + c) * g.source.c;
        for (int64_t at = 0; at < size; at += next) __builtin_prefetch(from + at, 0, 2);
      }
  }

  void copy_pixels(const T* from, int64_t count, T* to) const {
    const int64_t step = pixels.source_step();
    if (step == 1)
      std::memcpy(to, from, count * sizeof(T));
    else if (step == 2)  // known to the compiler, it becomes shuffles
      for (int64_t j = 0; j < count; ++j) to[j] = from[j * 2];
    else
      for (int64_t j = 0; j < count; ++j) to[j] = from[j * step];
  }

  struct Extent {
    int64_t rows, pixels;
  };

  // The source's pixels for one tile.
  struct Panel {
    const T* from;
    int64_t channel_stride;
  };

  void add_tile(int64_t block, Extent extent, Panel panel, T* acc, int64_t acc_stride) const {
    const Run whole{0, 0};
    TileArgs<T> args{};
    args.runs = &whole, args.run_count = 1;
    args.row_stride = 1, args.a_step = row_width;
    args.b_step = panel.channel_stride, args.panel_stride = tiles.lanes;
    args.acc = acc, args.acc_stride = acc_stride;
    const int64_t vecs = Blocks::covering(extent.pixels, tiles.lanes).count;
    for (int64_t i : Range{0, std::max<int64_t>(1, channels.count)}) {
      const Range some = channels.at(i, g.C);
      args.a = packed.const_data_ptr<T>() + block * block_size() + some.lo * row_width;
      args.b = panel.from + some.lo * panel.channel_stride;
      args.length = some.size(), args.fresh = some.lo == 0;
      tiles.tile_of_unit_stride[vecs][extent.rows](args);
    }
  }

  const Tiles<T>& tiles;
  const Gather<T>& g;
  PixelRows<T> pixels;
  int64_t width;  // of a panel, in pixels
  Blocks row_blocks;
  int64_t row_width;  // of the packed weights of a block of rows
  Blocks channels;
  Blocks panels;  // that an item reads, and copies where it cannot read them in place
  Blocks parts;   // of row_blocks, that an item computes
  bool in_place;  // whole panels are read where they lie
  at::Tensor packed;
};

}  // namespace

// With channels_last on either side the lanes lie along the channels without turning anything.
template <typename T>
bool is_pointwise(const Tiles<T>& tiles, const Gather<T>& g) {
  return g.taps() == 1 && g.source.c != 1 && g.destination.c != 1 && g.M >= tiles.max_rows(kVecs) &&
         PointwiseLoops<T>::panel_bytes(tiles, g) <= kPanelBytes &&
         Chains::levels_of(Chains(g.C, 1, 1).count()) == 1;
}

template <typename T>
void gather_pointwise(const Tiles<T>& tiles, const Gather<T>& g) {
  PointwiseLoops<T>(tiles, g).run();
}

template bool is_pointwise(const Tiles<float>&, const Gather<float>&);
template bool is_pointwise(const Tiles<double>&, const Gather<double>&);
template void gather_pointwise(const Tiles<float>&, const Gather<float>&);
template void gather_pointwise(const Tiles<double>&, const Gather<double>&);

}  // namespace convgrad::cpu
