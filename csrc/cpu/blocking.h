// How the gathering passes are cut into blocks that threads share out and caches hold.
#pragma once

#include <algorithm>

#include "cpu/chains.h"
#include "cpu/schedule.h"
#include "cpu/strip.h"
#include "cpu/tile.h"
#include "cpu/views.h"

namespace convgrad::cpu {

// How a pass is cut into blocks. It depends on the shape alone, and no result's digits depend on it: those
// depend on the chains.
template <typename T>
struct Blocking {
  Chains chains;
  int64_t levels;  // of groups of chains
  int64_t panels;
  Blocks vecs;           // panels that a tile takes at once
  Blocks parts;          // of vecs.count: what one item computes
  Blocks rows, columns;  // of the destination: a band
  Blocks images;         // that share an item
  bool strips;           // whether bands are copied

  Blocking(const Tiles<T>& tiles, const Gather<T>& g)
      : chains(g.C, g.h.T, g.w.T), levels(Chains::levels_of(chains.count())) {
    panels = Blocks::covering(g.M, tiles.lanes).count;
    vecs = Blocks::covering(panels, std::max(g.h.D, g.w.D) <= 7 ? 4 : 2);
    const int64_t tile_lanes = vecs.size * tiles.lanes;
    parts = Blocks::covering(vecs.count, std::max<int64_t>(1, lanes_of_part(g) / tile_lanes));
    const int64_t pixels = kSumsBytes / (levels * parts.size * tile_lanes * sizeof(T));
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

  int64_t strip_bytes(const Gather<T>& g) const {
    if (!strips) return 0;
    return product(Strip<T>::largest_channel(g.h, g.w, rows.size, columns.size),
                   chains.channels.size, sizeof(T));
  }

 private:
  // What one thread keeps at hand stays within its cache, and within a mebibyte.
  static constexpr int64_t kSumsBytes = 448 << 10;
  static constexpr int64_t kStripBytes = 448 << 10;
  static constexpr int64_t kFewColumns = 28;  // a tile's; a strip of fewer would be read too little

  // Items to share out among threads where the shape allows.
  static constexpr int64_t kWantedItems = 16;

  // A strip is copied once for all lanes of a part, and read once for each tap.
  static int64_t lanes_of_part(const Gather<T>& g) {
    const int64_t costly = g.h.step > 1 || g.w.step > 1 ? 512 : 256;
    return std::clamp<int64_t>(longest_chain(product(g.C, g.taps())) / g.taps(), costly, 512);
  }

  // The largest band whose sums and whose strip are small enough. If none is, the tiles read the tensor:
  // under a large dilation, a strip would hold all that lies between the taps.
  void choose_band(const Gather<T>& g, int64_t pixels) {
    strips = g.source.c != 1 && g.channels_inside();
    cover(g, pixels);
    while (strip_bytes(g) > kStripBytes && rows.size > 1)
      rows = Blocks::covering(g.h.D, rows.size / 2);
    while (strip_bytes(g) > kStripBytes && columns.size > kFewColumns)
      columns = Blocks::covering(g.w.D, columns.size / 2);
    if (strip_bytes(g) > kStripBytes) {
      strips = false;
      cover(g, pixels);
    }
    const int64_t fitting = std::min(pixels / (rows.size * columns.size),
                                     kStripBytes / std::max<int64_t>(1, strip_bytes(g)));
    const bool whole = rows.count * columns.count == 1;
    images = Blocks::covering(g.N, whole ? std::max<int64_t>(1, fitting) : 1);
  }

  // With so many pixels a band.
  void cover(const Gather<T>& g, int64_t pixels) {
    columns = Blocks::covering(g.w.D, std::min<int64_t>(pixels, 1024));
    rows = Blocks::covering(g.h.D, std::max<int64_t>(1, pixels / columns.size));
  }
};

}  // namespace convgrad::cpu
