#include "cpu/pixelwise/gather.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "cpu/common/scratch.h"
#include "cpu/common/threads.h"
#include "cpu/pixelwise/strip.h"

namespace convgrad::cpu {
namespace {

// The weights of one tile: row r and channel c are at r*row_stride + c*channel_stride.
template <typename Sum>
struct Weights {
  const Sum* first;  // of all groups
  int64_t group_size, block_size;
  int64_t row_stride, channel_stride;

  const Sum* at(int64_t group, int64_t block) const {
    return first + group * group_size + block * block_size;
  }
};

template <typename Sum>
Weights<Sum> weights_in(const Sum* weight, const Gather& g, const PixelwiseBlocking& blocking) {
  return {.first = weight + g.h.tap(0) * g.weight.h + g.w.tap(0) * g.weight.w,
          .group_size = g.weight_of_group,
          .block_size = blocking.row_blocks.size * g.weight.n,
          .row_stride = g.weight.n,
          .channel_stride = g.weight.c};
}

template <typename Sum>
Weights<Sum> weights_in(const at::Tensor& packed, const Gather& g,
                        const PixelwiseBlocking& blocking) {
  const int64_t block_size = blocking.block_size(g);
  return {.first = packed.const_data_ptr<Sum>(),
          .group_size = blocking.row_blocks.count * block_size,
          .block_size = block_size,
          .row_stride = 1,
          .channel_stride = blocking.row_width};
}

// Packs the weight as [block of rows][channel][row], so that the weights of a tile's rows are adjacent. A few channels at
// a time, whose cache lines all blocks of rows share. Vectors are whole where they can be: no tile reads the rest.
template <typename Sum>
at::Tensor pack_weight(const SumTiles<Sum>& tiles, const Gather& g,
                       const PixelwiseBlocking& blocking, const Sum* weight) {
  constexpr int64_t kChannels = 16;
  at::Tensor result = allocate<Sum>(blocking.packed_size(g));
  Sum* const packed = result.mutable_data_ptr<Sum>();
  const int64_t block_size = blocking.block_size(g);
  const Sum* const tap = weight + g.h.tap(0) * g.weight.h + g.w.tap(0) * g.weight.w;
  const Blocks channels = Blocks::covering(g.C, kChannels);
  const int64_t grain = grain_of(product(8, channels.size, g.M));
  at::parallel_for(0, g.groups * channels.count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i : Range{begin, end}) {
      const int64_t group = i / channels.count;
      const Range some = channels.at(i % channels.count, g.C);
      const Sum* const from = tap + group * g.weight_of_group + some.lo * g.weight.c;
      for (int64_t block : Range{0, blocking.row_blocks.count}) {
        const Range rows = blocking.row_blocks.at(block, g.M);
        Sum* const to = packed + (group * blocking.row_blocks.count + block) * block_size +
                        some.lo * blocking.row_width;
        for (int64_t row = 0; row < rows.size(); row += tiles.lanes)
          tiles.pack({.tensor = from + (rows.lo + row) * g.weight.n,
                      .step = g.weight.c,
                      .lane_stride = g.weight.n,
                      .vectors = to + row,
                      .vector_stride = blocking.row_width,
                      .count = some.size(),
                      .lanes = std::min<int64_t>(tiles.lanes, g.M - rows.lo - row)});
      }
    }
  });
  return result;
}

// The pixels of one tile, the same for all blocks of rows.
template <typename Sum>
struct Slice {
  const std::vector<Segment>& segments;
  const Sum* source;
  int64_t channel_stride;  // of the source
  int64_t more;            // slices that follow at the same distance, and are computed by one call
  int64_t source_next;     // from slice to slice
  int64_t vecs;
  int64_t destination;  // its first pixel in channel 0, in elements
  bool far_steps;       // whether the channels are in the tensor, and tiles prefetch them
  bool whole;           // whether all pixels have a source, and are adjacent in the destination
  bool straight;        // whether tiles write into it
};

template <typename Stored, typename Sum>
class PixelwiseLoops {
 public:
  PixelwiseLoops(const Tiles<Stored, Sum>& tiles, const Gather& g,
                 const Operands<Stored, Sum>& operands, const PixelwiseBlocking& blocking,
                 const PixelRows& pixels, const Weights<Sum>& weights)
      : tiles(tiles),
        g(g),
        operands(operands),
        blocking(blocking),
        pixels(pixels),
        strips(tiles, g, blocking, pixels, operands.source),
        weights(weights) {}

  // Part by part, so that threads share out the channels evenly where there are few slices.
  void run(Range items, Sum* scratch) const {
    const int64_t count = g.groups * blocking.slices.count;
    for (int64_t i : items)
      run_slices(i % count, blocking.parts.at(i / count, blocking.row_blocks.count),
                 i + 1 < items.hi, scratch);
  }

 private:
  // While these slices are computed, the sources of the next item are fetched.
  void run_slices(int64_t index, Range blocks, bool more, Sum* strip) const {
    const int64_t count = blocking.slices.count, group = index / count;
    const Segments segments = strips.segments_of(index % count);
    strips.fill(strips.copies_of(segments), group * g.C, strip);
    std::vector<typename PixelStrip<Sum>::Copy> next;
    if (more && blocking.fetches_next() && (index + 1) / count == group)
      next = strips.copies_of(strips.segments_of((index + 1) % count));
    const std::vector<Slice<Sum>> slices = slices_of(segments, group, strip);
    const Blocks shares{blocks.size(), Blocks::covering(g.C, blocks.size()).count};
    for (int64_t block : blocks) {
      const Range rows = blocking.row_blocks.at(block, g.M);
      TileArgs<Sum> args = arguments();
      for (const Slice<Sum>& slice : slices)
        run_tile(group * g.M + rows.lo, rows.size(), weights.at(group, block), slice, args,
                 strip + blocking.strip_size());
      strips.fetch(next, group * g.C, shares.at(block - blocks.lo, g.C));
    }
  }

  std::vector<Slice<Sum>> slices_of(const Segments& segments, int64_t group,
                                    const Sum* strip) const {
    std::vector<Slice<Sum>> slices;
    for (const std::vector<Segment>& of_slice : segments) {
      const Inside inside = pixels.inside_of(of_slice.front());
      const bool in_place = inside.count == blocking.width && blocking.in_place;
      const bool whole = is_whole(of_slice);
      const Sum* const image = operands.source + inside.source + group * g.C * g.source.c;
      const int64_t pixel_count = of_slice.back().at + of_slice.back().xs.size();
      const Slice<Sum> slice{.segments = of_slice,
                             .source = in_place ? image : strip,
                             .channel_stride = in_place ? g.source.c : blocking.width,
                             .more = 0,
                             .source_next = in_place ? blocking.width : blocking.slice_size,
                             .vecs = ceil_div(pixel_count, tiles.lanes),
                             .destination = pixels.destination(of_slice.front()),
                             .far_steps = in_place && blocking.steps_ahead > 0,
                             .whole = whole,
                             .straight = whole && tiles.in_place && !operands.bias};
      if (!slices.empty() && follows(slices.back(), slice))
        ++slices.back().more;
      else
        slices.push_back(slice);
      strip += blocking.slice_size;
    }
    return slices;
  }

  bool is_whole(const std::vector<Segment>& slice) const {
    if (pixels.destination_step() != 1) return false;
    const int64_t first = pixels.destination(slice.front());
    for (const Segment& s : slice)
      if (pixels.inside_of(s).count < s.xs.size() || pixels.destination(s) != first + s.at)
        return false;
    return slice.back().at + slice.back().xs.size() == blocking.width;
  }

  // Whether a slice continues those of the last one, so that one call of a tile computes all of them. Chains would
  // store the sums of all before the next one adds to them.
  bool follows(const Slice<Sum>& last, const Slice<Sum>& slice) const {
    const int64_t count = last.more + 1;
    return blocking.channels.count <= 1 && last.straight && slice.straight &&
           last.channel_stride == slice.channel_stride && last.far_steps == slice.far_steps &&
           slice.source == last.source + count * last.source_next &&
           slice.destination == last.destination + count * blocking.width;
  }

  void run_tile(int64_t channel, int64_t rows, const Sum* of_rows, const Slice<Sum>& slice,
                TileArgs<Sum>& args, Sum* sums) const {
    Stored* const to = operands.destination_at(g, 0, channel) + slice.destination;
    args.acc = slice.straight ? as_sums<Sum>(to) : sums;
    args.acc_stride = slice.straight ? g.destination.c : blocking.width;
    args.b_step = slice.channel_stride;
    args.more_tiles = slice.more, args.b_next = slice.source_next, args.acc_next = blocking.width;
    add_tile(args, rows, of_rows, slice);
    if (slice.straight) return;
    if (slice.whole)
      store_whole(channel, rows, sums, to);
    else
      store_tile(channel, rows, slice.segments, sums);
  }

  // What all tiles have in common.
  TileArgs<Sum> arguments() const {
    static constexpr Run kWhole{0, 0};
    TileArgs<Sum> args{};
    args.runs = &kWhole, args.run_count = 1;
    args.row_stride = weights.row_stride, args.a_step = weights.channel_stride;
    args.panel_stride = tiles.lanes, args.steps_ahead = blocking.steps_ahead;
    return args;
  }

  // Chain by chain.
  void add_tile(TileArgs<Sum>& args, int64_t rows, const Sum* of_rows,
                const Slice<Sum>& slice) const {
    const auto tile = slice.far_steps ? tiles.tile[kStepsApart][slice.vecs][rows]
                                      : tiles.tile_for(args.row_stride, slice.vecs, rows);
    int64_t channel = 0;
    do {
      args.a = of_rows + channel * weights.channel_stride;
      args.b = slice.source + channel * slice.channel_stride;
      args.length = std::min(blocking.channels.size, g.C - channel);
      args.fresh = channel == 0;
      tile(args);
      channel += blocking.channels.size;
    } while (channel < g.C);
  }

  void store_whole(int64_t channel, int64_t rows, Sum* sums, Stored* to) const {
    if (operands.bias)
      for (int64_t row : Range{0, rows})
        for (int64_t pixel : Range{0, blocking.width})
          sums[row * blocking.width + pixel] += operands.bias[channel + row];
    tiles.unpack({.vectors = sums,
                  .vector_stride = blocking.width,
                  .tensor = to,
                  .step = g.destination.c,
                  .lane_stride = 1,
                  .count = rows,
                  .lanes = blocking.width});
  }

  // The sum of a pixel that meets padding is set to zero: its product with an infinite weight is NaN.
  void store_tile(int64_t channel, int64_t rows, const std::vector<Segment>& segments,
                  Sum* sums) const {
    for (int64_t row : Range{0, rows})
      for (const Segment& s : segments) {
        Sum* const from = sums + row * blocking.width + s.at;
        const Inside inside = pixels.inside_of(s);
        std::fill_n(from, inside.before, Sum(0));
        std::fill(from + inside.before + inside.count, from + s.xs.size(), Sum(0));
        tiles.store_rows(
            {.from = from,
             .bias = operands.bias ? operands.bias[channel + row] : Sum(0),
             .to = operands.destination_at(g, 0, channel + row) + pixels.destination(s),
             .step = pixels.destination_step(),
             .count = s.xs.size()});
      }
  }

  const Tiles<Stored, Sum>& tiles;
  const Gather& g;
  const Operands<Stored, Sum>& operands;
  const PixelwiseBlocking& blocking;
  const PixelRows& pixels;
  PixelStrip<Sum> strips;
  Weights<Sum> weights;
};

}  // namespace

template <typename Stored, typename Sum>
void gather_pixelwise(const Tiles<Stored, Sum>& tiles, const Gather& g,
                      const Operands<Stored, Sum>& operands, const PixelwiseBlocking& blocking) {
  const PixelRows pixels(g);
  const at::Tensor packed =
      blocking.packs_weight ? pack_weight(tiles, g, blocking, operands.weight) : at::Tensor();
  const Weights<Sum> weights = blocking.packs_weight ? weights_in<Sum>(packed, g, blocking)
                                                     : weights_in(operands.weight, g, blocking);
  const PixelwiseLoops<Stored, Sum> loops(tiles, g, operands, blocking, pixels, weights);
  const int64_t work = product(blocking.slices.size, blocking.width, g.C, blocking.parts.size,
                               blocking.row_blocks.size);
  at::parallel_for(0, blocking.items(g), grain_of(work), [&](int64_t begin, int64_t end) {
    const at::Tensor scratch = allocate<Sum>(blocking.scratch_size());
    loops.run({begin, end}, scratch.mutable_data_ptr<Sum>());
  });
}

template void gather_pixelwise(const Tiles<float, float>&, const Gather&,
                               const Operands<float, float>&, const PixelwiseBlocking&);
template void gather_pixelwise(const Tiles<at::BFloat16, float>&, const Gather&,
                               const Operands<at::BFloat16, float>&, const PixelwiseBlocking&);
template void gather_pixelwise(const Tiles<double, double>&, const Gather&,
                               const Operands<double, double>&, const PixelwiseBlocking&);

}  // namespace convgrad::cpu
