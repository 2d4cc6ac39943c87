#include "cpu/depthwise/gather_channels.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "cpu/common/prefetch.h"
#include "cpu/common/threads.h"
#include "cpu/depthwise/channel_loops.h"

namespace convgrad::cpu {
namespace {

// Prefetches the sources of row y of the destination that the row before does not have: vectors of one pixel after the
// other are too far apart for the processor to see a stream.
template <typename Stored>
void fetch_row(const Gather& g, int64_t y, int64_t lanes, int64_t vecs, const Stored* source) {
  const Range before = g.h.sources_of({y - 1, y}), rows = g.h.sources_of({y, y + 1});
  for (int64_t row : Range{std::max(before.hi, rows.lo), rows.hi})
    for (int64_t x : Range{0, g.w.S})
      for (int64_t v : Range{0, vecs})
        prefetch(source + row * g.source.h + x * g.source.w + v * lanes);
}

}  // namespace

template <typename Stored, typename Sum>
void gather_channels(const Tiles<Stored, Sum>& tiles, const Gather& g,
                     const Operands<Stored, Sum>& operands, const ChannelBlocking& blocking) {
  const at::Tensor packed = pack_vectors(tiles, g, blocking, operands.weight);
  const ChannelLoops<Stored, Sum> loops(tiles, g, operands, blocking);
  const std::vector<ChannelVectors> vectors = blocking.vectors(g);
  const int64_t work = product(g.w.D, g.groups, g.M, g.taps());
  at::parallel_for(0, g.N * g.h.D, grain_of(work), [&](int64_t begin, int64_t end) {
    const at::Tensor sums = allocate<Sum>(blocking.scratch_size(g));
    std::vector<Run> runs;
    for (int64_t row : Range{begin, end}) {
      const int64_t n = row / g.h.D, y = row % g.h.D;
      loops.set_runs(y, runs);
      const Sum* weight = packed.const_data_ptr<Sum>();
      for (const ChannelVectors& some : vectors) {
        loops.run(n, y, some, {as_sums<Sum>(operands.source_at(g, n, some.first))}, weight, runs,
                  sums.mutable_data_ptr<Sum>());
        if (blocking.fetches_rows && y + 1 < g.h.D)
          fetch_row(g, y + 1, tiles.lanes, some.vecs, operands.source_at(g, n, some.first));
        weight += product(g.M, g.taps(), blocking.width);
      }
    }
  });
}

template void gather_channels(const Tiles<float, float>&, const Gather&,
                              const Operands<float, float>&, const ChannelBlocking&);
template void gather_channels(const Tiles<double, double>&, const Gather&,
                              const Operands<double, double>&, const ChannelBlocking&);

}  // namespace convgrad::cpu
