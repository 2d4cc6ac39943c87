// How the gathering passes are cut into blocks that threads share out and caches hold.
#pragma once

#include <algorithm>

#include "cpu/schedule.h"
#include "cpu/strip.h"
#include "cpu/tile.h"
#include "cpu/views.h"

namespace convgrad::cpu {

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

 private:
  // What one thread keeps at hand stays within its cache, and within a mebibyte.
  static constexpr int64_t kSumsBytes = 448 << 10;
  static constexpr int64_t kStripBytes = 448 << 10;

  // Items to share out among threads where the shape allows; a constant, for the result must not depend
  // on the number of threads.
  static constexpr int64_t kWantedItems = 16;
};

}  // namespace convgrad::cpu
