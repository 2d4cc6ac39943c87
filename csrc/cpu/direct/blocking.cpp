#include "cpu/direct/blocking.h"

#include <algorithm>

#include "cpu/common/strip.h"
#include "cpu/common/threads.h"

namespace convgrad::cpu {
namespace {

// A strip is copied once for all lanes of a part, and read once for each tap.
int64_t lanes_of_part(const Gather& g) {
  const int64_t costly = g.h.step > 1 || g.w.step > 1 ? 512 : 256;
  return std::clamp<int64_t>(longest_chain(product(g.C, g.taps())) / g.taps(), costly, 512);
}

class Cutting {
 public:
  Cutting(const Target& target, const Gather& g) : target(target), g(g) {}

  DirectBlocking run() {
    cut_channels();
    cut_band();
    cut_images();
    cut_into_items();
    b.strip_image = strip_bytes() / target.tiles.sum_bytes;
    return b;
  }

 private:
  // Scratch has sums and strips; the rest is left to the panels that pass through the cache.
  int64_t sums_bytes() const { return target.cache.sixteenths(7); }
  int64_t strips_bytes() const { return target.cache.sixteenths(7); }

  void cut_channels() {
    b.chains = Chains::of(g.C, g.h.T, g.w.T);
    b.levels = Chains::levels_of(b.chains.count());
    b.lanes = target.tiles.lanes;
    b.panels = Blocks::covering(g.M, b.lanes).count;
    b.vecs = Blocks::covering(b.panels, target.tile_vecs(longest_line()));
    b.parts =
        Blocks::covering(b.vecs.count, std::max<int64_t>(1, lanes_of_part(g) / b.tile_lanes()));
  }

  // Lines of a tile's rows end where the set of taps changes: the longest ones are those of the interior.
  int64_t longest_line() const {
    return std::max({int64_t{1}, g.h.interior().size(), g.w.interior().size()});
  }

  // The largest band whose sums and whose strip are small enough. If there is none, the tiles read the tensor:
  // under a large dilation, a strip would have all pixels between the taps.
  void cut_band() {
    constexpr int64_t kFewColumns = 28;  // of a tile; a narrower strip would be read too rarely
    b.strips = g.channels_inside() && (!adjacent() || crowded());
    cover();
    while (strip_bytes() > strips_bytes() && b.rows.size > 1)
      b.rows = Blocks::covering(g.h.D, b.rows.size - 1);
    while (strip_bytes() > strips_bytes() && b.columns.size > kFewColumns)
      b.columns = Blocks::covering(g.w.D, b.columns.size / 2);
    if (strip_bytes() <= strips_bytes()) return;
    b.strips = false;
    cover();
  }

  // Bands of as many pixels as their sums allow.
  void cover() {
    b.columns = Blocks::covering(g.w.D, std::min<int64_t>(pixels(), 1024));
    b.rows = Blocks::covering(g.h.D, std::max<int64_t>(1, pixels() / b.columns.size));
  }
  int64_t pixels() const {
    const int64_t pixel = b.levels * b.parts.size * b.tile_lanes() * target.tiles.sum_bytes;
    return std::max<int64_t>(1, sums_bytes() / pixel);
  }

  void cut_images() {
    const int64_t fitting =
        std::min(pixels() / b.pixels(), strips_bytes() / std::max<int64_t>(1, strip_bytes()));
    b.images = Blocks::covering(g.N, b.bands() == 1 ? std::max<int64_t>(1, fitting) : 1);
  }

  // Fewer images share an item before fewer lanes do, because each part of the lanes copies the band again.
  void cut_into_items() {
    const int64_t wanted = wanted_items(target.threads);
    if (items() < wanted)
      b.images = Blocks::covering(g.N, std::max<int64_t>(1, b.images.size * items() / wanted));
    if (items() < wanted)
      b.parts =
          Blocks::covering(b.vecs.count, std::max<int64_t>(1, b.parts.size * items() / wanted));
    if (items() > 0)
      b.parts = shared_evenly(b.parts, b.vecs.count, items() / b.parts.count, target.threads);
  }
  int64_t items() const { return b.bands() * b.items_of_band(g); }

  int64_t strip_bytes() const {
    if (!b.strips) return 0;
    const int64_t bytes = target.tiles.sum_bytes;
    return product(StripStrides::largest(g.h, g.w, b.rows.size, b.columns.size,
                                         b.chains.channels.size, adjacent(), bytes)
                       .size,
                   bytes);
  }

  // Whether the pixels of the source have adjacent channels.
  bool adjacent() const { return g.source.c == 1; }

  // Whether the pixels that a tile reads push each other out of L1d.
  bool crowded() const {
    const int64_t pixels = target.tiles.max_rows(b.vecs.size) + g.w.T - 1;
    return target.is_crowded(product(pixels, g.h.T), place(g.w.step, g.source.w));
  }

  const Target& target;
  const Gather& g;
  DirectBlocking b{};
};

}  // namespace

DirectBlocking DirectBlocking::of(const Target& target, const Gather& g) {
  return Cutting(target, g).run();
}

}  // namespace convgrad::cpu
