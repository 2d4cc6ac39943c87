#include "cpu/depthwise/gather_channels.h"

#include <ATen/Parallel.h>

#include "cpu/common/prefetch.h"
#include "cpu/common/threads.h"
#include "cpu/depthwise/channel_loops.h"

namespace convgrad::cpu {

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
    for (int64_t i : Range{begin, end}) {
      const int64_t n = i / g.h.D, y = i % g.h.D;
      loops.set_runs(y, runs);
      const Sum* weight = packed.const_data_ptr<Sum>();
      for (const ChannelVectors& some : vectors) {
        const Sum* const source = operands.source_at(g, n, some.first);
        loops.run(n, y, some, {source}, weight, runs, sums.mutable_data_ptr<Sum>());
        // Vectors of one pixel after the other are too far apart for the processor to see a stream.
        if (blocking.fetches_rows && y + 1 < g.h.D)
          for (int64_t row : g.h.new_sources_of(y + 1))
            prefetch_pieces(source + row * g.source.h, g.w.S, g.source.w, some.vecs * tiles.lanes);
        weight += product(g.M, g.taps(), blocking.width);
      }
    }
  });
}

template void gather_channels(const Tiles<float, float>&, const Gather&,
                              const Operands<float, float>&, const ChannelBlocking&);
template void gather_channels(const Tiles<at::BFloat16, float>&, const Gather&,
                              const Operands<at::BFloat16, float>&, const ChannelBlocking&);
template void gather_channels(const Tiles<double, double>&, const Gather&,
                              const Operands<double, double>&, const ChannelBlocking&);

}  // namespace convgrad::cpu
