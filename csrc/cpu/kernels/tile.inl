// The register tile.

namespace convgrad::cpu {
namespace {

// A vector in registers, and one in memory, whose alignment is that of an element. Two types, because clang
// drops the alignment of a typedef that is a template's argument or taken by reference.
template <typename T, int BYTES>
struct VectorOf {
  typedef T type __attribute__((vector_size(BYTES)));
  typedef T in_memory __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
};

template <typename T, typename V>
inline void load(const T* from, V& to) {
  to = *reinterpret_cast<const typename VectorOf<T, sizeof(V)>::in_memory*>(from);
}

template <typename T, typename V>
inline void store(const V& from, T* to) {
  *reinterpret_cast<typename VectorOf<T, sizeof(V)>::in_memory*>(to) = from;
}

// Multiply-adds take an operand from memory, and the compiler lets a few of them load again what has been loaded before. In
// 32 registers there is room for it, and loads of 64 bytes take more time than multiply-adds do. With half of both, the
// compiler's choice is faster.
template <int BYTES, typename Vector>
inline void keep_in_register(Vector& vector) {
  if constexpr (BYTES == 64) asm("" : "+v"(vector));
}

// Arguments are values: the compiler cannot prove that the stores leave an argument behind a reference as it is.
template <typename T, typename Vector, int VECS, int ROWS>
inline void store_sums(const Vector (&acc)[ROWS][VECS], T* to, int64_t stride, bool fresh) {
#pragma GCC unroll 28
  for (int r = 0; r < ROWS; ++r) {
    auto* sums =
        reinterpret_cast<typename VectorOf<T, sizeof(Vector)>::in_memory*>(to + r * stride);
#pragma GCC unroll 4
    for (int v = 0; v < VECS; ++v) sums[v] = fresh ? acc[r][v] : sums[v] + acc[r][v];
  }
}

// Prefetches a step's first number of A and its vectors of B, which are adjacent.
template <typename Sum, int BYTES>
inline void prefetch_step(const Sum* a, const Sum* b) {
  constexpr int kLine = 64;
  __builtin_prefetch(a);
#pragma GCC unroll 4
  for (int byte = 0; byte < BYTES; byte += kLine)
    __builtin_prefetch(reinterpret_cast<const char*>(b) + byte);
}

// A step of tiles of numbers: adds the product of one of A with a vector of B.
struct Numbers {
  template <typename Sum, typename Vector>
  static inline __attribute__((always_inline)) void add(Sum a, const Vector& b, Vector& sums) {
    sums += a * b;
  }
};

// One tile, whose A, B and sums start at `first_a`, `first_b` and `to`.
template <typename Step, typename Sum, int BYTES, TileKind KIND, int VECS, int ROWS>
inline __attribute__((always_inline)) void one_tile(const TileArgs<Sum>& t, const Sum* first_a,
                                                    const Sum* first_b, Sum* to) {
  using Vector = typename VectorOf<Sum, BYTES>::type;
  const int64_t row_stride = KIND == kRowsAdjacent ? 1 : t.row_stride;
  const int64_t panel_stride = KIND == kStepsApart ? BYTES / sizeof(Sum) : t.panel_stride;
  Vector acc[ROWS][VECS] = {};
  for (int64_t run = 0; run < t.run_count; ++run) {
    // One pointer for four rows: with three multiples of the row stride it addresses all of them.
    const Sum* first = first_a + place(1, t.from, 1, t.runs[run].a);
    const Sum* a[(ROWS + 3) / 4];
    for (int r = 0; r < ROWS; r += 4) a[r / 4] = first + r * row_stride;
    const Sum* b = first_b + t.runs[run].b;
    for (int64_t i = 0; i < t.length; ++i, b += t.b_step) {
      if constexpr (KIND == kStepsApart)
        prefetch_step<Sum, VECS * BYTES>(a[0] + t.steps_ahead * t.a_step,
                                         b + t.steps_ahead * t.b_step);
      Vector panel[VECS];
#pragma GCC unroll 4
      for (int v = 0; v < VECS; ++v) {
        load(b + v * panel_stride, panel[v]);
        keep_in_register<BYTES>(panel[v]);
      }
#pragma GCC unroll 28
      for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < VECS; ++v) Step::add(a[r / 4][r % 4 * row_stride], panel[v], acc[r][v]);
#pragma GCC unroll 7
      for (int r = 0; r < ROWS; r += 4) a[r / 4] += t.a_step;
    }
  }
  store_sums<Sum, Vector, VECS, ROWS>(acc, to, t.acc_stride, t.fresh);
}

template <typename Step, typename Sum, int BYTES, TileKind KIND, int VECS, int ROWS>
void tile(const TileArgs<Sum>& t) {
  const Sum *a = t.a, *b = t.b;
  Sum* acc = t.acc;
  for (int64_t left = t.more_tiles; left >= 0; --left) {
    one_tile<Step, Sum, BYTES, KIND, VECS, ROWS>(t, a, b, acc);
    a += t.a_next, b += t.b_next, acc += t.acc_next;
  }
}

}  // namespace
}  // namespace convgrad::cpu
