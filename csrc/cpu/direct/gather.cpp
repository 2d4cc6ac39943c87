#include "cpu/direct/gather.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "cpu/common/scratch.h"
#include "cpu/common/strip.h"
#include "cpu/common/threads.h"
#include "cpu/direct/reduction.h"
#include "cpu/direct/schedule.h"

namespace convgrad::cpu {
namespace {

// One pass: the values that its bands share.
template <typename Stored, typename Sum>
struct DirectPass {
  const Tiles<Stored, Sum>& tiles;
  const Gather& g;
  const Operands<Stored, Sum>& operands;
  const DirectBlocking& blocking;
  const Sum* panels;  // from the phase's first tap on
  PanelOrder order;   // of the phase's taps
};

// A thread's item: some images and some blocks of destination channels, of one band.
struct Item {
  int64_t group;
  Range images, blocks;
};

// One band, with the sums and strips of a thread that computes items of the band.
template <typename Stored, typename Sum>
class BandLoops {
 public:
  BandLoops(const DirectPass<Stored, Sum>& pass, const Band& band, const Strip<Sum>& strip,
            const SourceLayout& layout, Sum* scratch)
      : pass(pass),
        tiles(pass.tiles),
        g(pass.g),
        blocking(pass.blocking),
        strip(strip),
        schedule(pass.g, layout, band, pass.tiles.max_rows(pass.blocking.vecs.size)),
        reduction(pass.g, pass.order, layout),
        straight(tiles.in_place && g.destination.c == 1 && g.patch.size() == 0 &&
                 !pass.operands.bias && blocking.levels == 1 && g.M % tiles.lanes == 0),
        copies(scratch),
        levels(scratch + pass.blocking.strip_size()) {}

  void run(const Item& item) {
    Sum* const sums = add_chains(item, {0, blocking.chains.count()}, /*level=*/0);
    if (straight) return;
    // Where channels are adjacent, all of a pixel are stored before those of the next, which is as far as a page.
    if (g.destination.c == 1)
      store_blocks(item, item.blocks, sums);
    else
      for (int64_t vec_block : item.blocks) store_blocks(item, {vec_block, vec_block + 1}, sums);
  }

 private:
  // Sums some chains into the sums of a level: one after the other, or in groups that each are a sum of
  // the next level first. The strip and the chain's share of the panels stay in the cache.
  Sum* add_chains(const Item& item, Range chains, int64_t level) {
    const Blocks groups = Chains::groups_of(chains.size());
    Sum* const sums = levels + level * blocking.sums_size();
    if (groups.count == 1) {
      for (int64_t i : chains) add_chain(item, blocking.chains.at(i), sums, i == chains.lo);
      return sums;
    }
    for (int64_t i : Range{0, groups.count}) {
      const Range group = groups.at(i, chains.size());
      const Sum* of_group =
          add_chains(item, {chains.lo + group.lo, chains.lo + group.hi}, level + 1);
      for (int64_t j : Range{0, blocking.sums_size()})
        sums[j] = i == 0 ? of_group[j] : sums[j] + of_group[j];
    }
    return sums;
  }

  void add_chain(const Item& item, const Chain& chain, Sum* sums, bool fresh) {
    if (blocking.strips && chain.is_first_of_channels()) fill_strips(item, chain.channels);
    for (int64_t vec_block : item.blocks) add_block(item, chain, vec_block, sums, fresh);
  }

  void fill_strips(const Item& item, Range channels) const {
    for (int64_t n : item.images)
      strip.fill(copies + (n - item.images.lo) * blocking.strip_image, g.source,
                 pass.operands.source_at(g, n, item.group * g.C + channels.lo), channels.size());
  }

  int64_t sums_of(const Item& item, int64_t n, int64_t vec_block) const {
    const int64_t image = (vec_block - item.blocks.lo) * item.images.size() + n - item.images.lo;
    return image * blocking.pixels() * blocking.tile_lanes();
  }

  Range panels_of(int64_t vec_block) const { return blocking.vecs.at(vec_block, blocking.panels); }

  void add_block(const Item& item, const Chain& chain, int64_t vec_block, Sum* sums, bool fresh) {
    const Range panel = panels_of(vec_block);
    TileArgs<Sum> args{};
    args.b = pass.panels + (item.group * blocking.panels + panel.lo) * pass.order.size +
             chain.channels.lo * pass.order.c;
    args.panel_stride = pass.order.size;
    args.fresh = fresh;
    schedule.for_each_rectangle([&](const Rectangle& rectangle, Range taps_h, Range taps_w) {
      reduction.set(chain, taps_h.common_with(chain.taps_h), taps_w.common_with(chain.taps_w),
                    args);
      if (args.run_count == 0 && !fresh) return;
      if (rectangle.is_one_pixel())
        return add_pixel(args, item, chain.channels, vec_block, rectangle.line, sums);
      for (int64_t n : item.images) {
        args.a = source_of(item, chain.channels, n);
        add_rectangle(args, rectangle, results_of(item, n, vec_block, sums));
      }
    });
  }

  const Sum* source_of(const Item& item, Range channels, int64_t n) const {
    if (blocking.strips) return copies + (n - item.images.lo) * blocking.strip_image;
    return pass.operands.source_at(g, n, item.group * g.C + channels.lo);
  }

  // Where the results of one image and one block are added up.
  struct Results {
    Sum* first;
    int64_t vecs;
    bool straight;  // in the destination
    int64_t pixel;  // from pixel to pixel of the sums

    Sum* at(const Line& line) const {
      return first + (straight ? line.destination : line.first_pixel * pixel);
    }
    int64_t stride(const Line& line) const { return straight ? line.destination_stride : pixel; }
  };

  Results results_of(const Item& item, int64_t n, int64_t vec_block, Sum* sums) const {
    const Range panel = panels_of(vec_block);
    const int64_t channel = item.group * g.M + panel.lo * tiles.lanes;
    return {straight ? as_sums<Sum>(pass.operands.destination_at(g, n, channel))
                     : sums + sums_of(item, n, vec_block),
            panel.size(), straight, blocking.tile_lanes()};
  }

  // A corner of all images: each is a row, because a tile of one row waits for its own sums.
  void add_pixel(TileArgs<Sum> args, const Item& item, Range channels, int64_t vec_block,
                 const Line& line, Sum* sums) const {
    args.from = line.source;
    args.row_stride = blocking.strips ? blocking.strip_image : g.source.n;
    args.acc_stride =
        straight ? g.destination.n : product(blocking.pixels(), blocking.tile_lanes());
    const int64_t vecs = panels_of(vec_block).size();
    const Blocks tiles_of = Blocks::covering(item.images.size(), tiles.max_rows(vecs));
    for (int64_t i : Range{0, tiles_of.count}) {
      const Range images = tiles_of.at(i, item.images.size());
      const int64_t n = item.images.lo + images.lo;
      args.a = source_of(item, channels, n);
      args.acc = results_of(item, n, vec_block, sums).at(line);
      tiles.tile_for(args.row_stride, vecs, images.size())(args);
    }
  }

  void add_rectangle(TileArgs<Sum> args, const Rectangle& rectangle, const Results& results) const {
    rectangle.for_each_tiles([&](const Line& line, int64_t count) {
      args.from = line.source, args.row_stride = line.row_stride;
      args.acc = results.at(line), args.acc_stride = results.stride(line);
      args.more_tiles = count - 1;
      args.a_next = count > 1 && args.run_count > 0 ? place(line.rows, args.row_stride) : 0;
      args.acc_next = line.rows * args.acc_stride;
      tiles.tile_for(line.row_stride, results.vecs, line.rows)(args);
    });
  }

  void store_blocks(const Item& item, Range vec_blocks, Sum* sums) const {
    schedule.for_each_rectangle([&](const Rectangle& rectangle, Range, Range) {
      for (int64_t n : item.images)
        rectangle.for_each_line([&](const Line& line) {
          for (int64_t vec_block : vec_blocks)
            store_line(
                item, n, vec_block, line,
                sums + sums_of(item, n, vec_block) + line.first_pixel * blocking.tile_lanes());
        });
    });
  }

  // Sums have their bias added in place: nothing reads them again.
  void store_line(const Item& item, int64_t n, int64_t vec_block, const Line& line,
                  Sum* sums) const {
    const Range panel = panels_of(vec_block);
    const Range channels = Range::within(panel.lo * tiles.lanes, panel.hi * tiles.lanes, g.M);
    Stored* const pixel = pass.operands.destination_at(g, n, item.group * g.M) + line.destination;
    for (int64_t m = channels.lo; m < channels.hi;) {
      const Gather::Channels some = g.channels_from(m);
      UnpackArgs<Stored, Sum> args{};
      args.vectors = sums + m - channels.lo;
      args.vector_stride = blocking.tile_lanes();
      args.tensor = pixel + some.first;
      args.step = line.destination_stride, args.lane_stride = some.step;
      args.count = line.rows;
      const int64_t left = some.step == 1 ? channels.hi - m : tiles.lanes - m % tiles.lanes;
      args.lanes = std::min({left, some.count, g.M - m});
      if (pass.operands.bias)
        add_bias(args, sums + m - channels.lo, pass.operands.bias + item.group * g.M + m);
      tiles.unpack(args);
      m += args.lanes;
    }
  }

  static void add_bias(const UnpackArgs<Stored, Sum>& args, Sum* sums, const Sum* bias) {
    for (int64_t row : Range{0, args.count})
      for (int64_t lane : Range{0, args.lanes}) sums[row * args.vector_stride + lane] += bias[lane];
  }

  const DirectPass<Stored, Sum>& pass;
  const Tiles<Stored, Sum>& tiles;
  const Gather& g;
  const DirectBlocking& blocking;
  const Strip<Sum>& strip;
  Schedule schedule;
  Reduction reduction;
  const bool straight;  // whether tiles write into the destination, whose lanes are adjacent
  Sum* const copies;    // strips, one for each image of an item
  Sum* const levels;    // the sums of every level of groups of chains
};

Band band_at(const DirectBlocking& blocking, const Gather& g, int64_t i) {
  return {blocking.rows.at(i / blocking.columns.count, g.h.D),
          blocking.columns.at(i % blocking.columns.count, g.w.D)};
}

Item item_at(const DirectBlocking& blocking, const Gather& g, int64_t i) {
  const int64_t image = i / blocking.parts.count, images = blocking.images.count;
  return {image / images, blocking.images.at(image % images, g.N),
          blocking.parts.at(i % blocking.parts.count, blocking.vecs.count)};
}

}  // namespace

// Band by band: the strip's layout and the runs of a band serve all items that a thread has of it.
template <typename Stored, typename Sum>
void gather_direct(const Tiles<Stored, Sum>& tiles, const Gather& g,
                   const Operands<Stored, Sum>& operands, const DirectBlocking& blocking,
                   const Sum* panels, const PanelOrder& order) {
  const DirectPass<Stored, Sum> pass{
      tiles, g, operands, blocking, panels + order.first_tap(g), order.of_phase(g)};
  const int64_t items = blocking.items_of_band(g);
  const int64_t work = product(blocking.images.size, blocking.pixels(), g.C, g.taps(),
                               blocking.parts.size, blocking.tile_lanes());
  at::parallel_for(0, blocking.bands() * items, grain_of(work), [&](int64_t begin, int64_t end) {
    const at::Tensor scratch = allocate<Sum>(blocking.scratch_size());
    for (int64_t band = begin / items; band * items < end; ++band) {
      const Band pixels = band_at(blocking, g, band);
      const Strip<Sum> strip(tiles, g.h, g.w, pixels, blocking.chains.channels.size,
                             g.source.c == 1);
      const SourceLayout layout =
          blocking.strips ? strip.layout(g.h, g.w) : SourceLayout::of_tensor(g.h, g.w, g.source);
      BandLoops<Stored, Sum> loops(pass, pixels, strip, layout, scratch.mutable_data_ptr<Sum>());
      const int64_t first = band * items;
      for (int64_t i : Range{std::max(begin, first), std::min(end, first + items)})
        loops.run(item_at(blocking, g, i - first));
    }
  });
}

template void gather_direct(const Tiles<float, float>&, const Gather&,
                            const Operands<float, float>&, const DirectBlocking&, const float*,
                            const PanelOrder&);
template void gather_direct(const Tiles<at::BFloat16, float>&, const Gather&,
                            const Operands<at::BFloat16, float>&, const DirectBlocking&,
                            const float*, const PanelOrder&);
template void gather_direct(const Tiles<double, double>&, const Gather&,
                            const Operands<double, double>&, const DirectBlocking&, const double*,
                            const PanelOrder&);

}  // namespace convgrad::cpu
