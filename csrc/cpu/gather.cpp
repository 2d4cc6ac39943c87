#include "cpu/gather.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "cpu/packing.h"
#include "cpu/pointwise.h"
#include "cpu/schedule.h"
#include "cpu/strip.h"
#include "cpu/winograd.h"

namespace convgrad::cpu {
namespace {

// What one thread keeps at hand stays within its cache, and within a mebibyte.
constexpr int64_t kSumsBytes = 448 << 10;
constexpr int64_t kStripBytes = 448 << 10;

// Items to share out among threads where the shape allows; a constant, for the result must not depend
// on the number of threads.
constexpr int64_t kWantedItems = 16;

// How a pass is cut into blocks. It depends on the shape alone.
template <typename T>
struct Blocking {
  int64_t panels;
  Blocks vecs;           // panels that a tile takes at once
  Blocks parts;          // of vecs.count: what one item computes
  Blocks channels;       // of the source
  Blocks rows, columns;  // of the destination: a band
  Blocks images;         // that share an item
  bool strips;           // whether bands are copied

  Blocking(const Tiles<T>& tiles, const Gather<T>& g) {
    panels = Blocks::covering(g.M, tiles.lanes).count;
    vecs = Blocks::covering(panels, std::max(g.h.D, g.w.D) <= 7 ? 4 : 2);
    const int64_t tile_lanes = vecs.size * tiles.lanes;
    parts = Blocks::covering(vecs.count, std::max<int64_t>(1, lanes_of_part(g) / tile_lanes));
    channels = Blocks::covering(
        g.C, std::max<int64_t>(1, longest_sum(g.C * g.taps()) / std::max<int64_t>(1, g.taps())));
    strips = g.source.c != 1 && g.channels_inside();
    const int64_t pixels = kSumsBytes / (parts.size * tile_lanes * sizeof(T));
    choose_band(g, pixels);
    // Fewer images share an item before fewer lanes do, for each part of the lanes copies the band anew.
    if (items(g) < kWantedItems)
      images = Blocks::covering(g.N, std::max<int64_t>(1, images.size * items(g) / kWantedItems));
    if (items(g) < kWantedItems)
      parts =
          Blocks::covering(vecs.count, std::max<int64_t>(1, parts.size * items(g) / kWantedItems));
  }

  int64_t items(const Gather<T>& g) const {
    return g.groups * rows.count * columns.count * images.count * parts.count;
  }

  // A strip is copied once for all lanes of a part, and read once for each tap.
  static int64_t lanes_of_part(const Gather<T>& g) {
    const int64_t costly = g.h.step > 1 || g.w.step > 1 ? 512 : 256;
    return std::clamp<int64_t>(longest_sum(g.C * g.taps()) / std::max<int64_t>(1, g.taps()), costly,
                               512);
  }

  // The largest band whose sums and whose strip are small enough.
  void choose_band(const Gather<T>& g, int64_t pixels) {
    columns = Blocks::covering(g.w.D, std::min<int64_t>(pixels, 1024));
    rows = Blocks::covering(g.h.D, std::max<int64_t>(1, pixels / columns.size));
    while (strip_bytes(g) > kStripBytes && rows.size > 1)
      rows = Blocks::covering(g.h.D, rows.size / 2);
    while (strip_bytes(g) > kStripBytes && channels.size > 1)
      channels = Blocks::covering(g.C, channels.size / 2);
    const int64_t fitting = std::min(pixels / (rows.size * columns.size),
                                     kStripBytes / std::max<int64_t>(1, strip_bytes(g)));
    const bool whole = rows.count * columns.count == 1;
    images = Blocks::covering(g.N, whole ? std::max<int64_t>(1, fitting) : 1);
  }

  int64_t strip_bytes(const Gather<T>& g) const {
    if (!strips) return 0;
    return Strip<T>::largest_channel(g.h, g.w, rows.size, columns.size) * channels.size * sizeof(T);
  }
};

template <typename T>
class GatherLoops {
 public:
  GatherLoops(const Tiles<T>& tiles, const Gather<T>& g)
      : tiles(tiles),
        g(g),
        order(PanelOrder::of(g, tiles.lanes)),
        blocking(tiles, g),
        packed(WeightPacking<T>(tiles, g, order).run()) {
    for (int64_t y : Range{0, blocking.rows.count})
      for (int64_t x : Range{0, blocking.columns.count})
        add_band({blocking.rows.at(y, g.h.D), blocking.columns.at(x, g.w.D)});
  }

  void run() const {
    const int64_t bands = schedules.size(), images = blocking.images.count;
    const int64_t items = g.groups * images * bands * blocking.parts.count;
    const auto dtype = c10::CppTypeToScalarType<T>::value;
    const int64_t work =
        blocking.images.size * pixels * g.C * g.taps() * blocking.parts.size * tile_lanes();
    at::parallel_for(0, items, grain_of(work), [&](int64_t begin, int64_t end) {
      const at::Tensor scratch = at::empty({strip_size + sums_size}, dtype);
      for (int64_t i : Range{begin, end}) {
        const int64_t part = i % blocking.parts.count, band = i / blocking.parts.count % bands;
        const int64_t image = i / blocking.parts.count / bands;
        run_item({image / images, blocking.images.at(image % images, g.N), band,
                  blocking.parts.at(part, blocking.vecs.count)},
                 scratch.mutable_data_ptr<T>());
      }
    });
  }

 private:
  struct Item {
    int64_t group;
    Range images;
    int64_t band;
    Range blocks;
  };

  void add_band(const Band& band) {
    strips.emplace_back(g.h, g.w, band);
    const SourceLayout layout =
        blocking.strips ? strips.back().layout(g.h, g.w) : layout_of_tensor(g.h, g.w, g.source);
    schedules.emplace_back(g, order, layout, band, tiles.max_rows(blocking.vecs.size));
    pixels = std::max(pixels, band.pixels());
    strip_image = std::max(strip_image, strips.back().channel_size() * blocking.channels.size);
    strip_size = blocking.strips ? strip_image * blocking.images.size : 0;
    sums_size = blocking.parts.size * blocking.images.size * pixels * tile_lanes();
  }

  int64_t tile_lanes() const { return blocking.vecs.size * tiles.lanes; }
  int64_t panel_size() const { return order.size; }

  // Channel block by channel block, so that the strip and the panel's share stay in the cache.
  void run_item(const Item& item, T* scratch) const {
    T* sums = scratch + strip_size;
    for (int64_t block : Range{0, std::max<int64_t>(1, blocking.channels.count)}) {
      const Range channels = blocking.channels.at(block, g.C);
      if (blocking.strips)
        for (int64_t n : item.images)
          strips[item.band].fill(scratch + (n - item.images.lo) * strip_image, g.source,
                                 g.source.at(n, item.group * g.C + channels.lo), channels.size());
      for_each_line(item, [&](int64_t n, int64_t vec_block, const Line& line) {
        const T* image = blocking.strips ? scratch + (n - item.images.lo) * strip_image
                                         : g.source.at(n, item.group * g.C + channels.lo);
        add_line(item, image, vec_block, line, channels, sums_of(item, sums, n, vec_block, line));
      });
    }
    for_each_line(item, [&](int64_t n, int64_t vec_block, const Line& line) {
      store_line(item, n, vec_block, line, sums_of(item, sums, n, vec_block, line));
    });
  }

  template <typename Visit>
  void for_each_line(const Item& item, const Visit& visit) const {
    for (int64_t vec_block : item.blocks)
      for (int64_t n : item.images)
        for (const Line& line : schedules[item.band].lines) visit(n, vec_block, line);
  }

  T* sums_of(const Item& item, T* sums, int64_t n, int64_t vec_block, const Line& line) const {
    const int64_t image = (vec_block - item.blocks.lo) * item.images.size() + n - item.images.lo;
    return sums + (image * pixels + line.first_pixel) * tile_lanes();
  }

  Range panels_of(int64_t vec_block) const { return blocking.vecs.at(vec_block, blocking.panels); }

  void add_line(const Item& item, const T* image, int64_t vec_block, const Line& line,
                Range channels, T* sums) const {
    const Part& part = schedules[item.band].parts[line.part];
    const Range panel = panels_of(vec_block);
    const T* panels = packed.const_data_ptr<T>() + item.group * blocking.panels * panel_size();
    TileArgs<T> args{};
    args.a = image + line.source, args.row_stride = line.row_stride;
    args.b = panels + panel.lo * panel_size() + channels.lo * order.c;
    args.panel_stride = panel_size();
    args.runs = part.runs.data(), args.run_count = part.runs.size(), args.length = part.length;
    if (part.runs_per_channel > 0)
      args.run_count = part.runs_per_channel * channels.size();
    else
      args.length = channels.size();
    args.a_step = part.a_step, args.b_step = part.b_step;
    args.acc = sums, args.acc_stride = panel.size() * tiles.lanes;
    args.fresh = channels.lo == 0;
    const bool unit = line.row_stride == 1;
    (unit ? tiles.tile_of_unit_stride : tiles.tile)[panel.size()][line.rows](args);
  }

  void store_line(const Item& item, int64_t n, int64_t vec_block, const Line& line, T* sums) const {
    const Range panel = panels_of(vec_block);
    for (int64_t v : Range{0, panel.size()}) {
      const int64_t m = (panel.lo + v) * tiles.lanes;
      const int64_t channel = item.group * g.M + m;
      StripArgs<T> strip{sums + v * tiles.lanes,
                         panel.size() * tiles.lanes,
                         g.destination.at(n, channel) + line.destination,
                         line.destination_stride,
                         g.destination.c,
                         line.rows,
                         std::min<int64_t>(tiles.lanes, g.M - m)};
      if (g.bias) add_bias(strip, g.bias + channel * g.bias_stride);
      tiles.unpack(strip);
    }
  }

  void add_bias(const StripArgs<T>& strip, const T* bias) const {
    for (int64_t row : Range{0, strip.count})
      for (int64_t lane : Range{0, strip.lanes})
        strip.vectors[row * strip.vector_stride + lane] += bias[lane * g.bias_stride];
  }

  const Tiles<T>& tiles;
  const Gather<T>& g;
  PanelOrder order;
  Blocking<T> blocking;
  at::Tensor packed;
  std::vector<Strip<T>> strips;
  std::vector<Schedule> schedules;
  int64_t pixels = 0, strip_image = 0, strip_size = 0, sums_size = 0;
};

// Whether some phase of the input meets no tap: its gradient is zero.
bool some_phase_is_empty(const Axis& axis) {
  for (int64_t first : Range{0, axis.phases()})
    if (axis.inputs_of_phase(first).T == 0) return true;
  return false;
}

template <typename T>
void gather(const Tiles<T>& tiles, const Gather<T>& g) {
  if (is_pointwise(tiles, g)) return gather_pointwise(tiles, g);
  if (is_winograd(tiles, g)) return gather_winograd(tiles, g);
  GatherLoops<T>(tiles, g).run();
}

}  // namespace

template <typename T>
void forward(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& input,
             const at::Tensor& weight, const std::optional<at::Tensor>& bias, at::Tensor& output) {
  const int64_t M = shape.C_out_per_group();
  const Gather<T> g{shape.h.outputs(),
                    shape.w.outputs(),
                    shape.N,
                    shape.groups,
                    M,
                    shape.C_in_per_group(),
                    images_of<T>(input),
                    images_of<T>(output),
                    images_of<T>(weight),
                    M * weight.stride(0),
                    bias ? bias->const_data_ptr<T>() : nullptr,
                    bias ? bias->stride(0) : 0};
  gather(tiles, g);
}

template <typename T>
void grad_input(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& weight,
                const at::Tensor& grad_output, at::Tensor& grad_input) {
  const int64_t C = shape.C_out_per_group();
  Images<const T> transposed = images_of<T>(weight);
  std::swap(transposed.n, transposed.c);  // the lanes are the input's channels now
  if (some_phase_is_empty(shape.h) || some_phase_is_empty(shape.w)) grad_input.zero_();
  for (int64_t h : Range{0, shape.h.phases()})
    for (int64_t w : Range{0, shape.w.phases()}) {
      const Gather<T> g{shape.h.inputs_of_phase(h),
                        shape.w.inputs_of_phase(w),
                        shape.N,
                        shape.groups,
                        shape.C_in_per_group(),
                        C,
                        images_of<T>(grad_output),
                        images_of<T>(grad_input),
                        transposed,
                        C * weight.stride(0),
                        nullptr,
                        0};
      if (g.taps() > 0) gather(tiles, g);
    }
}

template void forward(const Tiles<float>&, const ConvShape&, const at::Tensor&, const at::Tensor&,
                      const std::optional<at::Tensor>&, at::Tensor&);
template void forward(const Tiles<double>&, const ConvShape&, const at::Tensor&, const at::Tensor&,
                      const std::optional<at::Tensor>&, at::Tensor&);
template void grad_input(const Tiles<float>&, const ConvShape&, const at::Tensor&,
                         const at::Tensor&, at::Tensor&);
template void grad_input(const Tiles<double>&, const ConvShape&, const at::Tensor&,
                         const at::Tensor&, at::Tensor&);

}  // namespace convgrad::cpu
