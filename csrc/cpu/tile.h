// The contract between the loop nests and the register tiles; see docs/tile.md.
#pragma once

#include <cstdint>

namespace convgrad::cpu {

// A stretch of the reduction: `length` steps along which A and B advance evenly.
struct Run {
  int64_t a, b;  // where the stretch begins, from the tile's A and B
};

// acc[row][lane] += A[row*row_stride + offset(q)] * B[q][lane]      for q in the reduction
//
// The reduction is the steps 0 <= i < length of every run: offset(q) = from + run.a + i*a_step, and
// B[q] = run.b + i*b_step. The place of tap 0 may be far outside of the image, so that `from` and run.a
// are added before they become a pointer. A tile is `rows` x `vecs` vectors; the vectors of one row come from
// consecutive panels of B.
template <typename T>
struct TileArgs {
  const T* a;
  int64_t from;  // from A to the place that runs are counted from
  int64_t row_stride;
  const T* b;
  int64_t panel_stride;
  const Run* runs;
  int64_t run_count, length, a_step, b_step;
  T* acc;              // written if `fresh`, otherwise added to
  int64_t acc_stride;  // from row to row
  bool fresh;
};

// Copies between a strip of vectors and a tensor, and turns it by the way: element (q, lane) of the
// vectors is element q*step + lane*lane_stride of the tensor.
template <typename T>
struct StripArgs {
  T* vectors;
  int64_t vector_stride;  // from vector q to q + 1
  T* tensor;
  int64_t step, lane_stride;
  int64_t count, lanes;  // vectors, and how many of their lanes are real
};

// Winograd's transforms of vectors of patches or of channels; docs/winograd.md derives them. A window is
// the 4x4 numbers by which a patch of 2x2 results meets its 3x3 taps; number i of each begins at
// window + i*window_stride.

// Sources to windows: B^T s B. Rows of sources have their even columns first. Reads and writes reach up
// to a vector beyond the last patch.
template <typename T>
struct SourceArgs {
  const T* rows[4];
  int64_t odd_columns;  // from the even columns of a row to its odd ones
  T* window;
  int64_t window_stride;
  int64_t count;  // patches
};

// Taps, in vectors of output channels, to windows: G w G^T.
template <typename T>
struct TapArgs {
  const T* taps;
  int64_t down, right;  // from tap to tap
  T* window;
  int64_t window_stride;
  int64_t count;  // vectors of a tap, one after the other
};

// Windows to patches: A^T m A, and the bias. The two rows of all patches are written in the order of
// their pixels.
template <typename T>
struct PatchArgs {
  const T* window;
  int64_t window_stride;
  T bias;
  T* rows[2];
  int64_t count;
};

// What grad_weight needs is the same turned round: A y A^T of patches, and G^T m G of windows. A number of
// either is a vector of output channels.
template <typename T>
struct GradArgs {
  const T* rows[2];  // pixel by pixel
  T* window;
  int64_t window_stride;
  int64_t count;  // patches; number i of all their windows lies patch after patch
};

template <typename T>
struct WeightArgs {
  const T* window;
  T* taps;         // in order; may begin where the window does
  int64_t stride;  // from number to number of both
  int64_t count;   // vectors of a number
};

// Every other number of a row to `first`, the others to `second`.
template <typename T>
struct SplitArgs {
  const T* row;
  int64_t step, count;
  T *first, *second;
};

constexpr int kMaxRows = 28;
constexpr int kMaxVecs = 4;

// One data type on one instruction set.
template <typename T>
struct Tiles {
  using TileFn = void (*)(const TileArgs<T>&);
  using StripFn = void (*)(const StripArgs<T>&);

  int lanes;     // elements of a vector
  int max_accs;  // vectors of sums that registers hold beside one row of A and B
  TileFn tile[kMaxVecs + 1][kMaxRows + 1];                 // [vecs][rows], any row_stride
  TileFn tile_of_unit_stride[kMaxVecs + 1][kMaxRows + 1];  // row_stride is 1
  StripFn pack;    // tensor to vectors; lanes that are not real become zero
  StripFn unpack;  // vectors to tensor
  void (*window_of_sources)(const SourceArgs<T>&);
  void (*window_of_taps)(const TapArgs<T>&);
  void (*patch_of_window)(const PatchArgs<T>&);
  void (*window_of_grad)(const GradArgs<T>&);
  void (*taps_of_window)(const WeightArgs<T>&);
  void (*split_row)(const SplitArgs<T>&);

  int max_rows(int64_t vecs) const {
    const int rows = max_accs / static_cast<int>(vecs);
    return rows < kMaxRows ? rows : kMaxRows;
  }
};

}  // namespace convgrad::cpu
