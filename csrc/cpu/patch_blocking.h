// How Winograd's gathering loops are cut into blocks that threads share out and caches hold.
#pragma once

#include <algorithm>

#include "cpu/patches.h"
#include "cpu/schedule.h"
#include "cpu/tile.h"
#include "cpu/views.h"

namespace convgrad::cpu {

// How a pass is cut into blocks. It depends on the shape alone.
template <typename T>
struct PatchBlocking {
  int64_t rows;     // of a tile
  Blocks panels;    // of vectors of patches: what a tile takes
  int64_t width;    // of a panel, in patches
  bool alone;       // one item has all the patches
  Blocks channels;  // of the source
  Blocks spans;     // of panels, that an item computes
  Blocks blocks;    // of the destination's channels: the lanes of the weight
  Blocks parts;     // of blocks, that an item computes

  PatchBlocking(const Tiles<T>& tiles, const Gather<T>& g, int64_t patches) {
    // As many as leave registers for the vectors, and a divisor of the lanes.
    for (rows = 1; 2 * rows <= std::min(tiles.lanes, tiles.max_rows(kVecs));) rows *= 2;
    panels = Blocks::covering(Blocks::covering(patches, tiles.lanes).count, kVecs);
    width = panels.size * tiles.lanes;
    alone = panels.count <= 2 && weight_bytes(g) > kLargeWeight;
    spans.size = alone ? panels.count : 1;
    const bool all = windows_bytes(g.C) <= kWindowsBytes;
    channels = Blocks::covering(g.C, all ? g.C : kBlockBytes / windows_bytes(1));
    if (!alone) spans.size = panels_of_item(g);
    spans = Blocks::covering(panels.count, spans.size);
    blocks = {Blocks::covering(g.M, tiles.lanes).count, tiles.lanes};
    parts = Blocks::covering(blocks.count, blocks_of_item(g));
  }

  // In elements.
  int64_t patches_of_span() const { return spans.size * width; }
  int64_t sums_size() const { return kWindow * blocks.size * width; }
  // The sums of several blocks and panels are kept if they have to wait.
  bool sums_wait() const { return channels.count > 1; }

 private:
  static constexpr int64_t kVecs = 3;                  // of patches in a tile
  static constexpr int64_t kScratchBytes = 920 << 10;  // a thread's windows
  // Those of the sources, if all channels fit; or of a block of channels: then the sums wait for the next.
  static constexpr int64_t kWindowsBytes = 448 << 10, kBlockBytes = 100 << 10;
  static constexpr int64_t kWantedItems = 16;       // whatever the number of threads
  static constexpr int64_t kLargeWeight = 2 << 20;  // one that is packed where it is used

  static int64_t weight_bytes(const Gather<T>& g) {
    return kWindow * g.C * g.M * static_cast<int64_t>(sizeof(T));
  }
  int64_t windows_bytes(int64_t channel_count) const {
    return channel_count * kWindow * patches_of_span() * static_cast<int64_t>(sizeof(T));
  }
  // One, where its sums have to wait: the more blocks share its sources.
  int64_t panels_of_item(const Gather<T>& g) const {
    if (sums_wait()) return 1;
    const int64_t fitting = kWindowsBytes / windows_bytes(channels.size);
    const int64_t wanted = g.groups * panels.count / kWantedItems;
    return std::max<int64_t>(1, std::min(fitting, wanted));
  }
  // As many as can be, for each part makes the windows of the sources anew.
  int64_t blocks_of_item(const Gather<T>& g) const {
    constexpr int64_t kFew = 4;
    const int64_t bytes = spans.size * sums_size() * static_cast<int64_t>(sizeof(T));
    const int64_t left = kScratchBytes - windows_bytes(channels.size);
    const int64_t fitting = sums_wait() ? std::max<int64_t>(1, left / bytes) : blocks.count;
    const int64_t items = g.groups * spans.count * Blocks::covering(blocks.count, fitting).count;
    if (items >= kWantedItems) return fitting;
    const int64_t wanted = g.groups * spans.count * blocks.count / kWantedItems;
    return std::min(fitting, std::max(wanted, kFew));
  }
};

}  // namespace convgrad::cpu
