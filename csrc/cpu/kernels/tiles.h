// The contract between the loop nests and one instruction set's kernels; docs/tile.md explains it.
//
// `Sum` is the type of operands and of the numbers that registers add, `Stored` that of a result's elements. Numbers are
// rounded where a result is stored, and nowhere else: in unpack and store_rows.
#pragma once

#include <cstdint>
#include <type_traits>

namespace convgrad::cpu {

// Part of a reduction: `length` steps along which A and B advance evenly.
struct Run {
  int64_t a, b;  // offset of the first step from the tile's A and B, in elements
};

// acc[row][lane] += A[row*row_stride + offset(q)] * B[q][lane]      for q in the reduction
//
// The reduction is the steps 0 <= i < length of every run: offset(q) = from + run.a + i*a_step, and
// B[q] = run.b + i*b_step. The offset of tap 0 may be far outside of the image, so that `from` and run.a
// are added before they become a pointer. A tile is `rows` x `vecs` vectors; the vectors of one row come from
// consecutive panels of B. All distances are in elements.
template <typename Sum>
struct TileArgs {
  const Sum* a;
  int64_t from;  // from A to the place that runs are counted from
  int64_t row_stride;
  const Sum* b;
  int64_t panel_stride;
  const Run* runs;
  int64_t run_count, length, a_step, b_step;
  int64_t steps_ahead;  // that the tile for steps far apart prefetches
  Sum* acc;             // written if `fresh`, otherwise added to
  int64_t acc_stride;   // from row to row
  bool fresh;
  int64_t more_tiles;  // of the same reduction, which the same call computes behind this one
  int64_t a_next, b_next, acc_next;  // from tile to tile
};

// The tile of depthwise loops, in which rows share sources: row i meets under tap j what row i + 1 meets under
// tap j - 1. Sources and rows are vectors; a weight is a number for all lanes, or a vector.
//
//     acc[i][lane] += weight[q][j] * source[q][i + j][lane]      for every tap j, and q in the runs
//
// Run q moves the source by run.a and the weight by run.b. Where groups have several channels, each lane has its source
// from another place of the same vector, and every run is repeated for each channel of the source's groups:
//
//     acc[i][lane] += weight[channel][q][j][lane] * source[q][i + j][index[lane] + channel]
//
// All distances are in elements.
template <typename Sum>
struct SlideArgs {
  const Sum* source;      // of row 0 under tap 0
  int64_t source_stride;  // from row to row, and from tap to tap
  const Sum* weight;
  int64_t weight_stride;  // from tap to tap
  const Run* runs;
  int64_t run_count;
  const int64_t* index;    // of every lane
  int64_t channels;        // of a group of the source
  int64_t weight_channel;  // from channel to channel of the weight
  Sum* acc;                // written if `fresh`, otherwise added to
  int64_t acc_stride;      // from row to row
  bool fresh;
  int64_t more_tiles;             // of the same taps, which the same call computes behind this one
  int64_t source_next, acc_next;  // from tile to tile
};

// The same meetings for grad_weight, whose sums are those of taps in some columns of taps:
//
//     acc[column][j][lane] += grad[q][i][lane] * source[q][column][i + j][lane]      for every row i
//
// q goes through `length` steps of every run, along which source and grad advance evenly.
template <typename Sum>
struct SlideTapsArgs {
  const Sum* source;
  int64_t source_stride;   // from row to row, and from tap to tap
  const int64_t* columns;  // from the source to that of each column of taps
  const int64_t* index;    // as for SlideArgs, and the channel
  int64_t channel;
  const Sum* grad;
  int64_t grad_stride;  // from row to row
  const Run* runs;      // of source (a) and grad (b)
  int64_t run_count, length, source_step, grad_step;
  Sum* acc;                        // written if `fresh`, otherwise added to
  int64_t acc_column, acc_stride;  // from column to column, from tap to tap
  bool fresh;
};

// Tensor to vectors. Lane l of vector q is the tensor's element q*step + l*lane_stride; lanes from `lanes`
// on are zero.
template <typename Sum>
struct PackArgs {
  const Sum* tensor;
  int64_t step, lane_stride;
  Sum* vectors;
  int64_t vector_stride;  // from vector to vector
  int64_t count, lanes;   // vectors; lanes that are in the tensor
};

// Vectors to tensor, with the same correspondence; lanes from `lanes` on are not stored. Where lanes are adjacent, `lanes` can
// be those of several vectors, one behind the other.
template <typename Stored, typename Sum>
struct UnpackArgs {
  const Sum* vectors;
  int64_t vector_stride;
  Stored* tensor;
  int64_t step, lane_stride;
  int64_t count, lanes;
};

// Pixels of rows to consecutive numbers: to[r*to_row + j] = from[r*from_row + j*step].
template <typename Sum>
struct LoadArgs {
  const Sum* from = nullptr;
  int64_t step = 1;
  Sum* to = nullptr;
  int64_t count = 0;  // of a row
  int64_t rows = 1, from_row = 0, to_row = 0;
};

// The same, with pixels of even index to `even` and the others to `odd`.
template <typename Sum>
struct SplitArgs {
  const Sum* from = nullptr;
  int64_t step = 1;
  Sum *even = nullptr, *odd = nullptr;
  int64_t count = 0;  // of a row
  int64_t rows = 1, from_row = 0, to_row = 0;
};

// Consecutive sums to the pixels of rows: to[r*to_row + j*step] = from[r*from_row + j] + bias.
template <typename Stored, typename Sum>
struct StoreArgs {
  const Sum* from = nullptr;
  Sum bias = 0;
  Stored* to = nullptr;
  int64_t step = 1;
  int64_t count = 0;  // of a row
  int64_t rows = 1, from_row = 0, to_row = 0;
};

// Vectors to vectors.
template <typename Sum>
struct CopyArgs {
  const Sum* from;
  int64_t from_stride;  // from vector to vector
  Sum* to;
  int64_t to_stride;
  int64_t count;  // vectors
};

// Winograd's transforms, of vectors of tiles or of channels; docs/winograd.md derives them. An output tile is
// 2x2 results. A transformed tile is the 4x4 numbers whose products with those of the taps give them: number i
// of each starts at `transformed` + i*transformed_stride.

// Sources: B^T s B. The even columns of a row come first. Up to a vector beyond the last tile is read and
// written.
template <typename Sum>
struct SourceArgs {
  const Sum* rows[4];
  int64_t odd_columns;  // from the even columns of a row to its odd ones
  Sum* transformed;
  int64_t transformed_stride;
  int64_t count;  // tiles
};

// Taps, in vectors of output channels: G w G^T.
template <typename Sum>
struct TapArgs {
  const Sum* taps;
  int64_t down, right;  // from tap to tap
  Sum* transformed;
  int64_t transformed_stride;
  int64_t count;  // vectors of a tap, one after the other
};

// Transformed tiles back to output tiles: A^T m A + bias. The two rows of all output tiles are written in the
// order of their pixels.
template <typename Sum>
struct OutputArgs {
  const Sum* transformed;
  int64_t transformed_stride;
  Sum bias;
  Sum* rows[2];
  int64_t count;  // tiles
};

// grad_weight needs the transposed transforms: A y A^T of output tiles, and G^T m G of transformed tiles. A
// number of either is a vector of output channels.
template <typename Sum>
struct GradArgs {
  const Sum* rows[2];  // pixel by pixel
  Sum* transformed;
  int64_t transformed_stride;
  int64_t count;  // tiles; number i of all of them is stored tile after tile
};

template <typename Sum>
struct WeightArgs {
  const Sum* transformed;
  Sum* taps;       // in order; may start where `transformed` does
  int64_t stride;  // from number to number of both
  int64_t count;   // vectors of a number
};

constexpr int kMaxRows = 28;
constexpr int kMaxVecs = 4;

// A tile for any distances, one whose rows are adjacent in A, and one whose vectors are adjacent in B while its steps are far
// apart in memory. The processor prefetches no such steps by itself, so that this tile does it. A step takes 6 to 14 cycles,
// and memory answers after 200 to 400. Where these lines crowd into few places of L1d, it prefetches fewer steps.
enum TileKind { kAnyTile, kRowsAdjacent, kStepsApart, kTileKinds };
constexpr int64_t kStepsAhead = 16, kFewStepsAhead = 8;

// Of slides. Eight sums hide the latency of a multiply-add on x86-64: four rows of two vectors, or seven of one, which
// are half or all rows of the smallest common maps. Seven taps are those of the largest common kernels.
constexpr int kMaxSlideRows = 7;
constexpr int kMaxSlideTaps = 7;
constexpr int kMaxSlideVecs = 2;
constexpr int max_slide_rows(int64_t vecs) { return vecs == 1 ? kMaxSlideRows : 4; }
constexpr int kMaxSlideTapsRows = 4;  // of grad_output, beside the sums of the taps
constexpr int kMaxSlideColumns = 3;

// A slide multiplies by a number for all lanes, or by vectors; or by one vector, with sources that an index permutes.
enum SlideKind { kByNumbers, kByVectors, kByIndex, kSlideKinds };

// The part of an instruction set's table that a plan counts with.
struct TileShape {
  const char* isa;    // the kernel's name: "avx512", "avx2" or "baseline"
  int lanes;          // elements of a vector
  int max_accs;       // vectors of sums that registers hold beside one row of A and B
  int64_t sum_bytes;  // of an element
  bool in_place;      // tiles can write into a result: Stored is Sum
  bool pairs;         // an element of A and B is two numbers (cpu/pairs.h)

  // The most rows of a tile that is `vecs` vectors wide.
  constexpr int max_rows(int64_t vecs) const {
    const int rows = max_accs / static_cast<int>(vecs);
    return rows < kMaxRows ? rows : kMaxRows;
  }
  constexpr int64_t vector_bytes() const { return lanes * sum_bytes; }

  // The most columns of a slide of `taps` taps whose sums fit.
  constexpr int64_t slide_columns(int64_t taps) const {
    const int64_t columns = max_accs / taps;
    return columns < kMaxSlideColumns ? columns : kMaxSlideColumns;
  }
};

// The kernels of one type of sums on one instruction set.
template <typename Sum>
struct SumTiles : TileShape {
  using TileFn = void (*)(const TileArgs<Sum>&);

  TileFn tile[kTileKinds][kMaxVecs + 1][kMaxRows + 1];
  // [kind][vecs][rows][taps]
  void (*slide[kSlideKinds][kMaxSlideVecs + 1][kMaxSlideRows + 1][kMaxSlideTaps + 1])(
      const SlideArgs<Sum>&);
  // [whether lanes have an index][columns][rows][taps], as many columns as registers hold sums for
  void (*slide_taps[2][kMaxSlideColumns + 1][kMaxSlideTapsRows + 1][kMaxSlideTaps + 1])(
      const SlideTapsArgs<Sum>&);
  void (*pack)(const PackArgs<Sum>&);
  void (*load_rows)(const LoadArgs<Sum>&);
  void (*split_rows)(const SplitArgs<Sum>&);
  void (*copy_vectors)(const CopyArgs<Sum>&);
  void (*transform_sources)(const SourceArgs<Sum>&);
  void (*transform_taps)(const TapArgs<Sum>&);
  void (*restore_outputs)(const OutputArgs<Sum>&);
  void (*transform_grads)(const GradArgs<Sum>&);
  void (*restore_taps)(const WeightArgs<Sum>&);

  TileFn tile_for(int64_t row_stride, int64_t vecs, int64_t rows) const {
    return tile[row_stride == 1 ? kRowsAdjacent : kAnyTile][vecs][rows];
  }
};

// With those of one type of results.
template <typename Stored, typename Sum>
struct Tiles : SumTiles<Sum> {
  void (*unpack)(const UnpackArgs<Stored, Sum>&);
  void (*store_rows)(const StoreArgs<Stored, Sum>&);
};

// A tile's sums in a result itself, for tiles that write into it.
template <typename Sum, typename Stored>
Sum* as_sums(Stored* result) {
  if constexpr (std::is_same_v<Stored, Sum>)
    return result;
  else
    return nullptr;  // no such tile does
}

}  // namespace convgrad::cpu
