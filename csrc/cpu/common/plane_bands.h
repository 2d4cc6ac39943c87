// The items of a gathering pass whose strips are planes with their padding: one group of some images in a band of rows.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "cpu/common/gather.h"
#include "cpu/common/plane_strip.h"
#include "cpu/common/scratch.h"
#include "cpu/common/threads.h"

namespace convgrad::cpu {

struct PlaneBands {
  PlaneRow row;
  Blocks rows;         // of the destination: a band
  int64_t strip_size;  // of one channel of the source, in elements

  int64_t items_of_band(const Gather& g) const { return row.images.count * g.groups; }
  // Of a thread, in elements.
  int64_t strips_size(const Gather& g) const { return product(g.C, strip_size); }
};

// Some items of one band.
struct BandItems {
  const Gather& g;
  const PlaneBands& bands;
  Range items;

  // visit(images, group)
  template <typename Visit>
  void for_each(const Visit& visit) const {
    for (int64_t item : items) visit(bands.row.images.at(item / g.groups, g.N), item % g.groups);
  }
};

// run(ys, items, scratch), in parallel: band by band, because the items of a band share its geometry. The strips come first
// in the scratch, and are zero.
template <typename Sum, typename Run>
void for_each_band(const Gather& g, const PlaneBands& bands, int64_t scratch_size, const Run& run) {
  const int64_t items = bands.items_of_band(g);
  const int64_t work = product(bands.rows.size, bands.row.width, g.C, g.M, g.taps());
  at::parallel_for(0, bands.rows.count * items, grain_of(work), [&](int64_t begin, int64_t end) {
    const at::Tensor memory = allocate<Sum>(scratch_size);
    Sum* const scratch = memory.mutable_data_ptr<Sum>();
    for (int64_t i = begin / items; i * items < end; ++i) {
      std::fill_n(scratch, bands.strips_size(g), Sum(0));
      const int64_t first = i * items;
      const Range some{std::max(begin, first) - first, std::min(end, first + items) - first};
      run(bands.rows.at(i, g.h.D), BandItems{g, bands, some}, scratch);
    }
  });
}

// Copies the sources of an item; the places of the padding keep their zeros.
template <typename Stored, typename Sum>
void fill_strips(const Tiles<Stored, Sum>& tiles, const Gather& g,
                 const Operands<Stored, Sum>& operands, const PlaneBands& bands,
                 const PlaneStrip& strip, Range images, int64_t group, Sum* strips) {
  for (int64_t c : Range{0, g.C})
    for (int64_t n : images)
      strip.fill(tiles, g.source, operands.source_at(g, n, group * g.C + c), n - images.lo,
                 strips + c * bands.strip_size);
}

}  // namespace convgrad::cpu
