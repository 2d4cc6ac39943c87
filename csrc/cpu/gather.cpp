#include "cpu/gather.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "cpu/blocking.h"
#include "cpu/packing.h"
#include "cpu/pointwise.h"
#include "cpu/reduction.h"
#include "cpu/schedule.h"
#include "cpu/strip.h"
#include "cpu/winograd.h"
#include "cpu/winograd_choice.h"

namespace convgrad::cpu {
namespace {

template <typename T>
class GatherLoops {
 public:
  GatherLoops(const Tiles<T>& tiles, const Gather<T>& g, PackedWeight<T>& weight)
      : tiles(tiles),
        g(g),
        order(weight.order_for(g)),
        blocking(tiles, g),
        panels(weight.panels(g)),
        pixels(blocking.rows.size * blocking.columns.size),
        strip_image(blocking.strip_bytes(g) / static_cast<int64_t>(sizeof(T))),
        strip_size(strip_image * blocking.images.size),
        sums_size(blocking.parts.size * blocking.images.size * pixels * tile_lanes()) {}

  // Band by band: what a thread makes for one serves all items that it has of it.
  void run() const {
    const int64_t bands = blocking.rows.count * blocking.columns.count;
    const int64_t items = g.groups * blocking.images.count * blocking.parts.count;  // of a band
    const int64_t work =
        product(blocking.images.size, pixels, g.C, g.taps(), blocking.parts.size, tile_lanes());
    at::parallel_for(0, bands * items, grain_of(work), [&](int64_t begin, int64_t end) {
      const at::Tensor scratch = room_for<T>(strip_size + blocking.levels * sums_size);
      for (int64_t band = begin / items; band * items < end; ++band) {
        Desk desk = desk_for(band, scratch.mutable_data_ptr<T>());
        const int64_t first = band * items;
        for (int64_t i : Range{std::max(begin, first), std::min(end, first + items)})
          run_item(item_at(i - first), desk);
      }
    });
  }

 private:
  struct Item {
    int64_t group;
    Range images, blocks;
  };

  // What a thread has before it while it computes a band.
  struct Desk {
    Strip<T> strip;
    Schedule schedule;
    Reduction<T> reduction;
    T *copies, *levels;  // strips; the sums of every level of groups of chains
    T* sums;             // of the current level
  };

  Desk desk_for(int64_t i, T* scratch) const {
    const int64_t y = i / blocking.columns.count, x = i % blocking.columns.count;
    const Band band{blocking.rows.at(y, g.h.D), blocking.columns.at(x, g.w.D)};
    const Strip<T> strip(tiles, g.h, g.w, band);
    const SourceLayout layout =
        blocking.strips ? strip.layout(g.h, g.w) : layout_of_tensor(g.h, g.w, g.source);
    return {strip,
            Schedule(g, layout, band, tiles.max_rows(blocking.vecs.size)),
            Reduction<T>(g, order, layout),
            scratch,
            scratch + strip_size,
            scratch + strip_size};
  }

  Item item_at(int64_t i) const {
    const int64_t image = i / blocking.parts.count, images = blocking.images.count;
    return {image / images, blocking.images.at(image % images, g.N),
            blocking.parts.at(i % blocking.parts.count, blocking.vecs.count)};
  }

  int64_t tile_lanes() const { return blocking.vecs.size * tiles.lanes; }
  int64_t panel_size() const { return order.size; }

  void run_item(const Item& item, Desk& desk) const {
    add_chains(item, desk, {0, blocking.chains.count()}, /*level=*/0);
    for (int64_t vec_block : item.blocks)
      for (int64_t n : item.images) store_block(item, desk, n, vec_block);
  }

  // Sums some chains into the sums of a level: one after the other, or in groups that each are a sum of
  // the next level first. The strip and the chain's share of the panels stay in the cache.
  void add_chains(const Item& item, Desk& desk, Range chains, int64_t level) const {
    const Blocks groups = Chains::groups_of(chains.size());
    if (groups.count == 1) {
      desk.sums = desk.levels + level * sums_size;
      for (int64_t i : chains) add_chain(item, desk, blocking.chains.at(i), i == chains.lo);
      return;
    }
    for (int64_t i : Range{0, groups.count}) {
      const Range group = groups.at(i, chains.size());
      add_chains(item, desk, {chains.lo + group.lo, chains.lo + group.hi}, level + 1);
      add_level(desk, level, i == 0);
    }
    desk.sums = desk.levels + level * sums_size;
  }

  void add_level(const Desk& desk, int64_t level, bool fresh) const {
    T* to = desk.levels + level * sums_size;
    const T* from = to + sums_size;
    for (int64_t i = 0; i < sums_size; ++i) to[i] = fresh ? from[i] : to[i] + from[i];
  }

  void add_chain(const Item& item, Desk& desk, const Chain& chain, bool fresh) const {
    if (blocking.strips && chain.is_first_of_channels()) fill_strips(item, desk, chain.channels);
    for (int64_t vec_block : item.blocks) add_block(item, desk, chain, vec_block, fresh);
  }

  void fill_strips(const Item& item, const Desk& desk, Range channels) const {
    for (int64_t n : item.images)
      desk.strip.fill(desk.copies + (n - item.images.lo) * strip_image, g.source,
                      g.source.at(n, item.group * g.C + channels.lo), channels.size());
  }

  T* sums_of(const Item& item, const Desk& desk, int64_t n, int64_t vec_block) const {
    const int64_t image = (vec_block - item.blocks.lo) * item.images.size() + n - item.images.lo;
    return desk.sums + image * pixels * tile_lanes();
  }

  Range panels_of(int64_t vec_block) const { return blocking.vecs.at(vec_block, blocking.panels); }

  void add_block(const Item& item, Desk& desk, const Chain& chain, int64_t vec_block,
                 bool fresh) const {
    const Range panel = panels_of(vec_block), channels = chain.channels;
    const int64_t first_panel = item.group * blocking.panels + panel.lo;
    TileArgs<T> args{};
    args.b = panels + first_panel * panel_size() + channels.lo * order.c;
    args.panel_stride = panel_size();
    args.acc_stride = panel.size() * tiles.lanes;
    args.fresh = fresh;
    desk.schedule.for_each_rectangle([&](const Rectangle& rectangle, Range taps_h, Range taps_w) {
      desk.reduction.set(chain, taps_h.common_with(chain.taps_h), taps_w.common_with(chain.taps_w),
                         args);
      if (args.run_count == 0 && !fresh) return;
      for (int64_t n : item.images) {
        const T* image = blocking.strips ? desk.copies + (n - item.images.lo) * strip_image
                                         : g.source.at(n, item.group * g.C + channels.lo);
        add_rectangle(args, image, panel.size(), rectangle, sums_of(item, desk, n, vec_block));
      }
    });
  }

  void add_rectangle(TileArgs<T>& args, const T* image, int64_t vecs, const Rectangle& rectangle,
                     T* sums) const {
    rectangle.for_each_line([&](const Line& line) {
      args.a = image, args.from = line.source, args.row_stride = line.row_stride;
      args.acc = sums + line.first_pixel * tile_lanes();
      const bool unit = line.row_stride == 1;
      (unit ? tiles.tile_of_unit_stride : tiles.tile)[vecs][line.rows](args);
    });
  }

  void store_block(const Item& item, const Desk& desk, int64_t n, int64_t vec_block) const {
    T* sums = sums_of(item, desk, n, vec_block);
    desk.schedule.for_each_rectangle([&](const Rectangle& rectangle, Range, Range) {
      rectangle.for_each_line([&](const Line& line) {
        store_line(item, n, vec_block, line, sums + line.first_pixel * tile_lanes());
      });
    });
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
  const T* panels;
  int64_t pixels;                              // of a band
  int64_t strip_image, strip_size, sums_size;  // elements of a thread's scratch
};

// Whether some phase of the input meets no tap: its gradient is zero.
bool some_phase_is_empty(const Axis& axis) {
  for (int64_t first : Range{0, axis.phases()})
    if (axis.inputs_of_phase(first).T == 0) return true;
  return false;
}

template <typename T>
void gather(const Tiles<T>& tiles, const Gather<T>& g, PackedWeight<T>& weight) {
  if (is_pointwise(tiles, g)) return gather_pointwise(tiles, g);
  if (!winograd_is_allowed() || !is_winograd(tiles, g))
    return GatherLoops<T>(tiles, g, weight).run();
  weight.release();  // its windows are larger than the weight itself
  gather_winograd(tiles, g);
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
                    bias ? bias->stride(0) : 0,
                    /*filters_are_lanes=*/true};
  PackedWeight<T> packed(tiles, g);
  gather(tiles, g, packed);
}

template <typename T>
void grad_input(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& weight,
                const at::Tensor& grad_output, at::Tensor& grad_input) {
  const int64_t C = shape.C_out_per_group();
  Images<const T> transposed = images_of<T>(weight);
  std::swap(transposed.n, transposed.c);  // the lanes are the input's channels now
  if (some_phase_is_empty(shape.h) || some_phase_is_empty(shape.w)) grad_input.zero_();
  Gather<T> g{shape.h.outputs(),
              shape.w.outputs(),
              shape.N,
              shape.groups,
              shape.C_in_per_group(),
              C,
              images_of<T>(grad_output),
              images_of<T>(grad_input),
              transposed,
              C * weight.stride(0),
              nullptr,
              0,
              /*filters_are_lanes=*/false};
  PackedWeight<T> packed(tiles, g);  // outputs meet all taps, inputs those of their phase
  for (int64_t h : Range{0, shape.h.phases()})
    for (int64_t w : Range{0, shape.w.phases()}) {
      g.h = shape.h.inputs_of_phase(h), g.w = shape.w.inputs_of_phase(w);
      if (g.taps() > 0) gather(tiles, g, packed);
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
