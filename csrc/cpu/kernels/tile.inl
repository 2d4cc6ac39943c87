// The register tile, and the copies between a tensor and the vectors that it reads and writes.

namespace convgrad::cpu {
namespace {

// A vector in registers, and one in memory, where it lies beside numbers of any alignment. Two types, for
// clang forgets what a typedef says of that where it is a template's argument or taken by reference.
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

// By value: the compiler cannot tell the sums in memory from the arguments.
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

template <typename T, int BYTES, int VECS, int ROWS, bool UNIT_STRIDE>
void tile(const TileArgs<T>& t) {
  using Vector = typename VectorOf<T, BYTES>::type;
  const int64_t row_stride = UNIT_STRIDE ? 1 : t.row_stride;
  Vector acc[ROWS][VECS] = {};
  for (int64_t run = 0; run < t.run_count; ++run) {
    // A pointer for every four rows: three multiples of the row stride then address all of them.
    const T* first = t.a + place(1, t.from, 1, t.runs[run].a);
    const T* a[(ROWS + 3) / 4];
    for (int r = 0; r < ROWS; r += 4) a[r / 4] = first + r * row_stride;
    const T* b = t.b + t.runs[run].b;
    for (int64_t i = 0; i < t.length; ++i, b += t.b_step) {
      Vector panel[VECS];
#pragma GCC unroll 4
      for (int v = 0; v < VECS; ++v) load(b + v * t.panel_stride, panel[v]);
#pragma GCC unroll 28
      for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < VECS; ++v) acc[r][v] += a[r / 4][r % 4 * row_stride] * panel[v];
#pragma GCC unroll 7
      for (int r = 0; r < ROWS; r += 4) a[r / 4] += t.a_step;
    }
  }
  store_sums<T, Vector, VECS, ROWS>(acc, t.acc, t.acc_stride, t.fresh);
}

// low = a0 b0 a1 b1 and high = a2 b2 a3 b3; by reference, for a vector wider than the target's
// registers has no agreed way to be returned.
template <typename V>
void interleave(const V& a, const V& b, V& low, V& high) {
#if defined(__clang__)
  low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
#else
  using Order = decltype(a < b);
  low = __builtin_shuffle(a, b, Order{0, 4, 1, 5});
  high = __builtin_shuffle(a, b, Order{2, 6, 3, 7});
#endif
}

// to[j][i] = from[i][j] for a block of four by four.
template <typename T>
void turn_block(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  using V = typename VectorOf<T, 4 * sizeof(T)>::type;
  V row[4], even[2], odd[2], column[4];
  for (int i = 0; i < 4; ++i) load(from + i * from_stride, row[i]);
  interleave(row[0], row[2], even[0], even[1]);
  interleave(row[1], row[3], odd[0], odd[1]);
  interleave(even[0], odd[0], column[0], column[1]);
  interleave(even[1], odd[1], column[2], column[3]);
  for (int j = 0; j < 4; ++j) store(column[j], to + j * to_stride);
}

// Turns the four-by-four blocks of a strip, a stretch of it at a time, so that both sides stay in the
// cache; returns how many lanes that did. The last block of four reaches back over the one before it
// where the count is not a multiple of four.
template <typename T, int LANES, typename TurnBlock>
int64_t turn_quads(const StripArgs<T>& s, const TurnBlock& turn) {
  if (LANES % 4 != 0 || s.step != 1 || s.count < 4) return 0;
  constexpr int64_t kStretch = 64;
  const int64_t lanes = s.lanes / 4 * 4;
  for (int64_t begin = 0; begin < s.count; begin += kStretch) {
    const int64_t end = begin + kStretch < s.count ? begin + kStretch : s.count;
    for (int64_t lane = 0; lane < lanes; lane += 4)
      for (int64_t q = begin; q < end; q += 4) {
        const int64_t from = q + 4 <= s.count ? q : s.count - 4;
        turn(s.tensor + from + lane * s.lane_stride, s.vectors + from * s.vector_stride + lane);
      }
  }
  return lanes;
}

template <typename T, int LANES>
void copy_vector(const T* from, T* to) {
  typename VectorOf<T, LANES * sizeof(T)>::type vector;
  load(from, vector);
  store(vector, to);
}

// Copies a vector, or as many of its elements as are real: by fours, the last of which reach back.
template <typename T, int LANES>
void copy_lanes(const T* from, T* to, int64_t count) {
  if (count == LANES) {
    copy_vector<T, LANES>(from, to);
  } else if (count < 4) {
    for (int64_t lane = 0; lane < count; ++lane) to[lane] = from[lane];
  } else {
    for (int64_t lane = 0; lane < count; lane += 4) {
      const int64_t at = lane + 4 <= count ? lane : count - 4;
      copy_vector<T, 4>(from + at, to + at);
    }
  }
}

template <typename T, int LANES>
void pack(const StripArgs<T>& s) {
  int64_t done = 0;
  if (s.lane_stride == 1) {
    for (int64_t q = 0; q < s.count; ++q)
      copy_lanes<T, LANES>(s.tensor + q * s.step, s.vectors + q * s.vector_stride, s.lanes);
    done = s.lanes;
  } else {
    done = turn_quads<T, LANES>(s, [&](const T* tensor, T* vectors) {
      turn_block(tensor, s.lane_stride, vectors, s.vector_stride);
    });
  }
  if (done == LANES) return;
  for (int64_t q = 0; q < s.count; ++q)
    for (int64_t lane = done; lane < LANES; ++lane)
      s.vectors[q * s.vector_stride + lane] =
          lane < s.lanes ? s.tensor[q * s.step + lane * s.lane_stride] : T(0);
}

template <typename T, int LANES>
void unpack(const StripArgs<T>& s) {
  if (s.lane_stride == 1) {
    for (int64_t q = 0; q < s.count; ++q)
      copy_lanes<T, LANES>(s.vectors + q * s.vector_stride, s.tensor + q * s.step, s.lanes);
    return;
  }
  const int64_t turned = turn_quads<T, LANES>(s, [&](T* tensor, const T* vectors) {
    turn_block(vectors, s.vector_stride, tensor, s.lane_stride);
  });
  for (int64_t lane = turned; lane < s.lanes; ++lane)
    for (int64_t q = 0; q < s.count; ++q)
      s.tensor[q * s.step + lane * s.lane_stride] = s.vectors[q * s.vector_stride + lane];
}

}  // namespace
}  // namespace convgrad::cpu
