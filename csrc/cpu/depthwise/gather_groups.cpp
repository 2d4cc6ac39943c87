#include "cpu/depthwise/gather_groups.h"

#include <ATen/Parallel.h>

#include "cpu/common/threads.h"
#include "cpu/depthwise/channel_loops.h"

namespace convgrad::cpu {
namespace {

// As [vectors][c][t_h][t_w][lanes]; a lane is a channel of the destination.
template <typename Sum>
at::Tensor pack_group_vectors(const Gather& g, const Gather& over_channels,
                              const ChannelBlocking& blocking, const Sum* weight) {
  at::Tensor packed = allocate<Sum>(blocking.packed_size(over_channels));
  Sum* to = packed.mutable_data_ptr<Sum>();
  for (const ChannelVectors& some : blocking.vectors(over_channels))
    for (int64_t c : Range{0, g.C})
      for (int64_t t_h : Range{0, g.h.T})
        for (int64_t t_w : Range{0, g.w.T}) {
          const Sum* const tap =
              weight + c * g.weight.c + g.h.tap(t_h) * g.weight.h + g.w.tap(t_w) * g.weight.w;
          for (int64_t lane : Range{0, some.vecs * blocking.lanes}) {
            const int64_t m = some.first + lane;
            to[lane] = tap[m / g.M * g.weight_of_group + m % g.M * g.weight.n];
          }
          to += blocking.width;
        }
  return packed;
}

}  // namespace

template <typename Stored, typename Sum>
void gather_groups(const Tiles<Stored, Sum>& tiles, const Gather& g,
                   const Operands<Stored, Sum>& operands, const GroupBlocking& blocking) {
  const Gather over_channels = blocking.over_channels(g);
  const at::Tensor packed =
      pack_group_vectors<Sum>(g, over_channels, blocking.channels, operands.weight);
  const ChannelLoops<Stored, Sum> loops(tiles, over_channels, operands, blocking.channels);
  const std::vector<ChannelVectors> vectors = blocking.channels.vectors(over_channels);
  const std::vector<VectorSources> sources =
      VectorSources::of({g.groups, g.M, g.C}, vectors, tiles.lanes);
  const int64_t of_vector = product(g.C, g.taps(), blocking.channels.width);
  const int64_t work = product(g.w.D, vectors.size(), of_vector);
  at::parallel_for(0, g.N * g.h.D, grain_of(work), [&](int64_t begin, int64_t end) {
    const at::Tensor sums = allocate<Sum>(blocking.scratch_size(tiles, over_channels));
    std::vector<Run> runs;
    for (int64_t row : Range{begin, end}) {
      const int64_t n = row / g.h.D, y = row % g.h.D;
      loops.set_runs(y, runs);
      for (size_t i = 0; i < vectors.size(); ++i)
        loops.run(n, y, vectors[i],
                  {operands.source_at(g, n, sources[i].first), sources[i].index.data()},
                  packed.const_data_ptr<Sum>() + i * of_vector, runs, sums.mutable_data_ptr<Sum>());
    }
  });
}

template void gather_groups(const Tiles<float, float>&, const Gather&,
                            const Operands<float, float>&, const GroupBlocking&);
template void gather_groups(const Tiles<at::BFloat16, float>&, const Gather&,
                            const Operands<at::BFloat16, float>&, const GroupBlocking&);
template void gather_groups(const Tiles<double, double>&, const Gather&,
                            const Operands<double, double>&, const GroupBlocking&);

}  // namespace convgrad::cpu
