#include "cpu/direct/weight_blocking.h"

#include <algorithm>

#include "cpu/common/chains.h"
#include "cpu/common/strip.h"
#include "cpu/common/threads.h"

namespace convgrad::cpu {
namespace {

constexpr int64_t kUsualVecs = 2;  // of a tile

class Cutting {
 public:
  Cutting(const Target& target, const ConvShape& shape, const PassStrides& strides)
      : target(target),
        shape(shape),
        input(strides.input),
        grad_output(strides.output),
        rows_are_taps(taps_are_better()),
        rows(rows_are_taps ? shape.w.K : shape.C_in_per_group()) {}

  WeightBlocking run() {
    cut_pixels();
    cut_into_chunks();
    cut_channels();
    b.packed = !reads_grad_output();
    cut_strips();
    return b;
  }

 private:
  // Of a thread: packed grad_output, strips of the input, and sums of an item or of all chunks.
  int64_t packed_bytes() const { return target.cache.sixteenths(4); }
  int64_t strips_bytes() const { return target.cache.sixteenths(3); }
  int64_t sums_bytes() const { return target.cache.sixteenths(8); }

  // A stretch of the input is fetched, and maybe copied, once for all taps and all output channels of a part:
  // the fewer taps, the more channels.
  int64_t lanes_of_part() const {
    constexpr int64_t kProducts = 1152;  // of each pixel that is fetched
    return std::min<int64_t>(128, kProducts / shape.taps());
  }

  // The rows of one tile, where equally large tiles cover `rows` of them.
  int64_t rows_of_tile(int64_t rows, int64_t vecs) const {
    return Blocks::covering(rows, target.tiles.max_rows(vecs)).size;
  }
  int64_t rows_of_usual_tile(int64_t rows) const {
    return rows_of_tile(rows, target.tile_vecs(rows));
  }

  // Every tap reads the vectors of a stretch again. Where a tile loads more than `kBytes` of them for each multiply-add, L2
  // is too slow.
  bool outrun_l2(int64_t rows) const {
    constexpr int64_t kBytes = 12;
    return target.tiles.vector_bytes() > kBytes * rows_of_usual_tile(rows);
  }

  // Whether a tile whose rows are taps loads less for each multiply-add. Outputs that do not meet all taps have tiles of
  // their own, which should be few.
  bool taps_are_better() const {
    const int64_t channels = shape.C_in_per_group(), taps = shape.w.K;
    return outrun_l2(channels) && rows_of_usual_tile(taps) > rows_of_usual_tile(channels) &&
           2 * shape.w.outputs().interior().size() > shape.w.O;
  }

  int64_t channels_of_tile(int64_t vecs) const {
    return rows_are_taps ? 1 : rows_of_tile(rows, vecs);
  }

  // Of some channels in one image.
  int64_t strip_bytes(int64_t channels) const {
    const int64_t bytes = target.tiles.sum_bytes;
    return product(
        StripStrides::largest(shape.h.outputs(), shape.w.outputs(), b.stretches.rows.size,
                              b.stretches.columns.size, channels, input.c == 1, bytes)
            .size,
        bytes);
  }

  int64_t pixels_of_stretch() const {
    const int64_t lanes =
        std::max<int64_t>(int64_t{kMaxVecs} * target.tiles.lanes, lanes_of_part());
    const int64_t fitting = packed_bytes() / (lanes * target.tiles.sum_bytes);
    return std::clamp<int64_t>(std::min(fitting, pixels_in_l1d()), 1, kLongestPixelChain);
  }

  // Where L2 is too slow, the vectors of a stretch should stay in two thirds of L1d.
  int64_t pixels_in_l1d() const {
    if (!outrun_l2(rows)) return kLongestPixelChain;
    return target.cache.l1d * 2 / 3 / (target.tile_vecs(rows) * target.tiles.vector_bytes());
  }

  // Fewer rows and images where the strip of a tile would be too large.
  void cut_pixels() {
    const int64_t pixels = pixels_of_stretch();
    Stretches& s = b.stretches;
    s.columns = Blocks::covering(shape.w.O, pixels);
    s.rows = Blocks::covering(shape.h.O, std::max<int64_t>(1, pixels / s.columns.size));
    const int64_t channels = channels_of_tile(kUsualVecs);
    while (s.rows.size > 1 && strip_bytes(channels) > strips_bytes())
      s.rows = Blocks::covering(shape.h.O, s.rows.size / 2);
    const bool whole = s.columns.count * s.rows.count == 1;
    const int64_t fitting =
        whole ? std::min(pixels / shape.output_pixels(),
                         strips_bytes() / std::max<int64_t>(1, strip_bytes(channels)))
              : 1;
    s.images = Blocks::covering(shape.N, std::max<int64_t>(1, fitting));
  }

  void cut_into_chunks() {
    const int64_t count = std::max<int64_t>(1, b.stretches.count());
    b.chunks = Blocks::covering(count, Blocks::covering(count, kReductionItems).count);
    b.chunks_apart = product(b.chunks.count, weight_bytes()) <= sums_bytes();
  }

  int64_t vectors() const {
    return Blocks::covering(shape.C_out_per_group(), target.tiles.lanes).count;
  }
  int64_t weight_bytes() const {
    return product(shape.groups, vectors(), target.tiles.lanes, shape.C_in_per_group(),
                   shape.taps(), target.tiles.sum_bytes);
  }

  // The sums of a tile under all taps.
  int64_t tile_bytes() const {
    return product(b.tile_channels, shape.taps(), b.sums.vector_size(), target.tiles.sum_bytes);
  }

  void cut_channels() {
    WeightSums& sums = b.sums;
    sums.groups = shape.groups, sums.numbers = shape.taps();
    sums.C_out = shape.C_out_per_group(), sums.C_in = shape.C_in_per_group();
    sums.lanes = target.tiles.lanes, sums.vectors = vectors();
    sums.outs = Blocks::covering(sums.vectors, target.tile_vecs(rows));
    const int64_t vecs = std::max(kUsualVecs, sums.outs.size);
    b.tile_channels = channels_of_tile(vecs);
    b.tile_taps = rows_are_taps ? rows_of_tile(rows, vecs) : 1;
    const int64_t items = wanted_items(target.threads);
    const int64_t wanted = b.chunks_apart ? Blocks::covering(items, b.chunks.count).count : items;
    const int64_t sharing = shape.groups * sums.outs.count / wanted;
    const int64_t fitting = sums_bytes() / tile_bytes();
    const int64_t outs = std::min({lanes_of_part() / sums.vector_size(), sharing, fitting});
    sums.parts = Blocks::covering(sums.outs.count, std::max<int64_t>(1, outs));
    sums.ins = input_blocks(wanted);
  }

  // Where channels are adjacent, the strips of as many tiles as fit are one: it is filled pixel by pixel, and few channels
  // of a pixel are less than what memory brings at a time.
  void cut_strips() {
    const int64_t fitting = strips_bytes() / std::max<int64_t>(1, b.stretches.images.size);
    b.copied = !rows_are_taps && crowded() && strip_bytes(b.tile_channels) <= fitting;
    b.strip_channels = b.tile_channels;
    if (input.c == 1)
      while (b.strip_channels < b.sums.ins.size &&
             strip_bytes(b.strip_channels + b.tile_channels) <= fitting)
        b.strip_channels += b.tile_channels;
    b.strip_image = b.copied ? strip_bytes(b.strip_channels) / target.tiles.sum_bytes : 0;
  }

  // Blocks of whole tiles whose sums fit, and several blocks where there would be too few items.
  Blocks input_blocks(int64_t wanted_blocks) const {
    const WeightSums& sums = b.sums;
    const int64_t tile_count = Blocks::covering(sums.C_in, b.tile_channels).count;
    const int64_t fitting =
        std::max<int64_t>(1, sums_bytes() / product(sums.parts.size, tile_bytes()));
    const int64_t wanted = Blocks::covering(wanted_blocks, shape.groups * sums.parts.count).count;
    const int64_t per_block = std::min(fitting, Blocks::covering(tile_count, wanted).count);
    const int64_t size = Blocks::covering(tile_count, per_block).size * b.tile_channels;
    return {Blocks::covering(sums.C_in, size).count, size};
  }

  // Whether what a tile reads in the tensor pushes itself out of L1d: one row for each channel, or, where channels are
  // adjacent, one place for each pixel, unless it is prefetched.
  bool crowded() const {
    if (input.c != 1) return target.is_crowded(b.tile_channels, input.c);
    const int64_t step = place(shape.w.outputs().step, input.w);
    return b.packed ? target.is_crowded(b.stretches.pixels(), step) : target.outrun_prefetch(step);
  }

  // Whether the channels of grad_output are vectors as they lie.
  bool reads_grad_output() const {
    return grad_output.c == 1 && shape.C_out_per_group() % target.tiles.lanes == 0 &&
           !target.outrun_prefetch(grad_output.w);
  }

  const Target& target;
  const ConvShape& shape;
  const Strides &input, &grad_output;
  const bool rows_are_taps;
  const int64_t rows;  // of all tiles: taps of a row or input channels
  WeightBlocking b{};
};

}  // namespace

WeightBlocking WeightBlocking::of(const Target& target, const ConvShape& shape,
                                  const PassStrides& strides) {
  return Cutting(target, shape, strides).run();
}

}  // namespace convgrad::cpu
