#include "cpu/depthwise/gather_maps.h"

#include <ATen/Parallel.h>

#include "cpu/common/threads.h"
#include "cpu/depthwise/channel_loops.h"

namespace convgrad::cpu {
namespace {

// The same pass over copies of maps, whose pixels have the groups of a block side by side; for one filter of each group.
Gather gather_of_copies(Gather g, int64_t width) {
  g.N = 1, g.groups = width, g.M = 1;
  g.source = {.n = 0, .c = 1, .h = g.w.S * width, .w = width};
  g.destination = {.n = 0, .c = 1, .h = g.w.D * width, .w = width};
  return g;
}

// One thread's copies of the maps of some groups.
template <typename Stored, typename Sum>
class MapLoops {
 public:
  MapLoops(const Tiles<Stored, Sum>& tiles, const Gather& g, const Operands<Stored, Sum>& operands,
           const MapBlocking& blocking, Sum* scratch)
      : tiles(tiles),
        g(g),
        operands(operands),
        blocking(blocking),
        source(scratch),
        results(scratch + blocking.source_size),
        copies(gather_of_copies(g, blocking.channels.width)),
        slides(tiles, copies, blocking.channels) {}

  void run(int64_t n, const ChannelVectors& some, const Sum* weight, std::vector<Run>& runs) {
    copy(n, some);
    for (int64_t m : Range{0, g.M}) {
      for (int64_t y : Range{0, g.h.D}) {
        slides.set_runs(y, runs);
        slides.add_to({results + y * copies.destination.h, copies.destination.w}, some.vecs,
                      {source}, weight, runs);
      }
      if (operands.bias) add_bias(operands.bias + some.first * g.M + m, some.vecs);
      store(n, some, m);
      weight += product(g.taps(), blocking.channels.width);
    }
  }

 private:
  void copy(int64_t n, const ChannelVectors& some) const {
    const int64_t width = blocking.channels.width;
    const bool whole = g.source.h == g.w.S * g.source.w;  // rows without a gap
    const int64_t rows = whole ? 1 : g.h.S, pixels = product(g.h.S, g.w.S) / rows;
    for (int64_t v : Range{0, some.vecs})
      for (int64_t row : Range{0, rows})
        tiles.pack(
            {.tensor = operands.source_at(g, n, some.first + v * tiles.lanes) + row * g.source.h,
             .step = g.source.w,
             .lane_stride = g.source.c,
             .vectors = source + row * pixels * width + v * tiles.lanes,
             .vector_stride = width,
             .count = pixels,
             .lanes = tiles.lanes});
  }

  void add_bias(const Sum* bias, int64_t vecs) const {
    for (int64_t pixel : Range{0, g.h.D * g.w.D})
      for (int64_t lane : Range{0, vecs * tiles.lanes})
        results[pixel * blocking.channels.width + lane] += bias[lane * g.M];
  }

  // A vector that overlaps the one before leaves the groups that both have to that one, which is another item.
  void store(int64_t n, const ChannelVectors& some, int64_t m) const {
    const int64_t width = blocking.channels.width, lanes = tiles.lanes;
    const int64_t overlap = (lanes - some.first % lanes) % lanes;
    const bool whole = g.destination.h == g.w.D * g.destination.w;
    const int64_t rows = whole ? 1 : g.h.D, pixels = product(g.h.D, g.w.D) / rows;
    for (int64_t v : Range{0, some.vecs})
      for (int64_t row : Range{0, rows})
        tiles.unpack(
            {.vectors = results + row * pixels * width + v * lanes + overlap,
             .vector_stride = width,
             .tensor = operands.destination_at(g, n, (some.first + v * lanes + overlap) * g.M + m) +
                       row * g.destination.h,
             .step = g.destination.w,
             .lane_stride = g.M * g.destination.c,
             .count = pixels,
             .lanes = lanes - overlap});
  }

  const Tiles<Stored, Sum>& tiles;
  const Gather& g;
  const Operands<Stored, Sum>& operands;
  const MapBlocking& blocking;
  Sum *const source, *const results;
  const Gather copies;
  const ChannelSlides<Sum> slides;
};

}  // namespace

template <typename Stored, typename Sum>
void gather_maps(const Tiles<Stored, Sum>& tiles, const Gather& g,
                 const Operands<Stored, Sum>& operands, const MapBlocking& blocking) {
  const ChannelBlocking& channels = blocking.channels;
  const at::Tensor packed = pack_vectors(tiles, g, channels, operands.weight);
  const std::vector<ChannelVectors> vectors = channels.vectors(g);
  const auto count = static_cast<int64_t>(vectors.size());
  const int64_t of_vector = product(g.M, g.taps(), channels.width);
  const int64_t work = product(g.h.D, g.w.D, of_vector);
  at::parallel_for(0, g.N * count, grain_of(work), [&](int64_t begin, int64_t end) {
    const at::Tensor scratch = allocate<Sum>(blocking.scratch_size());
    MapLoops<Stored, Sum> loops(tiles, g, operands, blocking, scratch.mutable_data_ptr<Sum>());
    std::vector<Run> runs;
    for (int64_t i : Range{begin, end})
      loops.run(i / count, vectors[i % count], packed.const_data_ptr<Sum>() + i % count * of_vector,
                runs);
  });
}

template void gather_maps(const Tiles<float, float>&, const Gather&, const Operands<float, float>&,
                          const MapBlocking&);
template void gather_maps(const Tiles<at::BFloat16, float>&, const Gather&,
                          const Operands<at::BFloat16, float>&, const MapBlocking&);
template void gather_maps(const Tiles<double, double>&, const Gather&,
                          const Operands<double, double>&, const MapBlocking&);

}  // namespace convgrad::cpu
