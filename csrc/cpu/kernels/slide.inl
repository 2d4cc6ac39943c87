// The tiles of depthwise loops, where a row of results has one source under each tap. Included after tile.inl.

namespace convgrad::cpu {
namespace {

// A number in every lane, or a vector.
template <bool SPREAD, typename Sum, typename Vector>
inline void load_weight(const Sum* from, Vector& to) {
  if constexpr (SPREAD)
    to = Vector{} + *from;
  else
    load(from, to);
}

template <typename V>
inline auto index_of(const int64_t* lanes, int64_t first) {
  decltype(V{} < V{}) index{};
  for (size_t i = 0; i < sizeof(V) / sizeof(index[0]); ++i) index[i] = first + lanes[i];
  return index;
}

template <typename V, typename Index>
inline void permute(const V& from, const Index& index, V& to) {
#if defined(__clang__)
  const V all = from;
  for (size_t i = 0; i < sizeof(V) / sizeof(all[0]); ++i) to[i] = all[index[i]];
#else
  to = __builtin_shuffle(from, index);
#endif
}

// One tile, whose sources and sums start at `first_source` and `to`. A source is loaded once for all rows that it meets.
template <typename Sum, int BYTES, SlideKind KIND, int VECS, int ROWS, int TAPS>
inline __attribute__((always_inline)) void one_slide(const SlideArgs<Sum>& s,
                                                     const Sum* first_source, Sum* to) {
  using Vector = typename VectorOf<Sum, BYTES>::type;
  constexpr int LANES = BYTES / sizeof(Sum);
  constexpr bool INDEXED = KIND == kByIndex, SPREAD = KIND == kByNumbers;
  decltype(Vector{} < Vector{}) index{};
  if constexpr (INDEXED) index = index_of<Vector>(s.index, 0);
  Vector acc[ROWS][VECS] = {};
  const int64_t channels = INDEXED ? s.channels : 1;
  for (int64_t channel = 0; channel < channels; ++channel, index += 1)
    for (int64_t run = 0; run < s.run_count; ++run) {
      const Sum* source = first_source + s.runs[run].a;
      const Sum* weight = s.weight + s.runs[run].b;
      if constexpr (INDEXED) weight += channel * s.weight_channel;
      const int64_t next_source = s.source_stride, next_weight = s.weight_stride;
      Vector taps[TAPS][VECS];
#pragma GCC unroll 8
      for (int j = 0; j < TAPS; ++j)
#pragma GCC unroll 2
        for (int v = 0; v < VECS; ++v)
          load_weight<SPREAD>(weight + j * next_weight + (SPREAD ? 0 : v * LANES), taps[j][v]);
#pragma GCC unroll 16
      for (int at = 0; at < ROWS + TAPS - 1; ++at, source += next_source) {
        Vector sources[VECS];
#pragma GCC unroll 2
        for (int v = 0; v < VECS; ++v) load(source + v * LANES, sources[v]);
        if constexpr (INDEXED) permute(sources[0], index, sources[0]);
#pragma GCC unroll 2
        for (int v = 0; v < VECS; ++v) keep_in_register<BYTES>(sources[v]);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r)
          if (0 <= at - r && at - r < TAPS)
#pragma GCC unroll 2
            for (int v = 0; v < VECS; ++v) acc[r][v] += taps[at - r][v] * sources[v];
      }
    }
  store_sums<Sum, Vector, VECS, ROWS>(acc, to, s.acc_stride, s.fresh);
}

template <typename Sum, int BYTES, SlideKind KIND, int VECS, int ROWS, int TAPS>
void slide(const SlideArgs<Sum>& s) {
  const Sum* source = s.source;
  Sum* acc = s.acc;
  for (int64_t left = s.more_tiles; left >= 0; --left) {
    one_slide<Sum, BYTES, KIND, VECS, ROWS, TAPS>(s, source, acc);
    source += s.source_next, acc += s.acc_next;
  }
}

// A row of grad_output meets a source under each tap: the sums of the taps stay in registers.
template <typename Sum, int BYTES, bool INDEXED, int ROWS, int TAPS, int COLUMNS>
void slide_taps(const SlideTapsArgs<Sum>& s) {
  using Vector = typename VectorOf<Sum, BYTES>::type;
  decltype(Vector{} < Vector{}) index{};
  if constexpr (INDEXED) index = index_of<Vector>(s.index, s.channel);
  Vector acc[COLUMNS][TAPS] = {};
  for (int64_t run = 0; run < s.run_count; ++run) {
    const Sum* source = s.source + s.runs[run].a;
    const Sum* grad = s.grad + s.runs[run].b;
    for (int64_t i = 0; i < s.length; ++i, source += s.source_step, grad += s.grad_step) {
      Vector grads[ROWS];
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) load(grad + r * s.grad_stride, grads[r]);
#pragma GCC unroll 4
      for (int column = 0; column < COLUMNS; ++column) {
        const Sum* of_column = source + s.columns[column];
#pragma GCC unroll 16
        for (int at = 0; at < ROWS + TAPS - 1; ++at, of_column += s.source_stride) {
          Vector sources;
          load(of_column, sources);
          if constexpr (INDEXED) permute(sources, index, sources);
          keep_in_register<BYTES>(sources);
#pragma GCC unroll 8
          for (int r = 0; r < ROWS; ++r)
            if (0 <= at - r && at - r < TAPS) acc[column][at - r] += grads[r] * sources;
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int column = 0; column < COLUMNS; ++column)
    store_sums<Sum, Vector, 1, TAPS>(reinterpret_cast<Vector(&)[TAPS][1]>(acc[column]),
                                     s.acc + column * s.acc_column, s.acc_stride, s.fresh);
}

template <typename Sum, int BYTES, int ACCS, bool INDEXED, int ROWS, int TAPS>
void enter_slide_taps(SumTiles<Sum>& tiles) {
  auto& slides = tiles.slide_taps[INDEXED];
  slides[1][ROWS][TAPS] = slide_taps<Sum, BYTES, INDEXED, ROWS, TAPS, 1>;
  if constexpr (2 * TAPS <= ACCS)
    slides[2][ROWS][TAPS] = slide_taps<Sum, BYTES, INDEXED, ROWS, TAPS, 2>;
  if constexpr (3 * TAPS <= ACCS)
    slides[3][ROWS][TAPS] = slide_taps<Sum, BYTES, INDEXED, ROWS, TAPS, 3>;
}

template <typename Sum, int BYTES, int ACCS, int ROWS, int TAPS>
void enter_slides_of(SumTiles<Sum>& tiles) {
  tiles.slide[kByVectors][1][ROWS][TAPS] = slide<Sum, BYTES, kByVectors, 1, ROWS, TAPS>;
  tiles.slide[kByNumbers][1][ROWS][TAPS] = slide<Sum, BYTES, kByNumbers, 1, ROWS, TAPS>;
  tiles.slide[kByIndex][1][ROWS][TAPS] = slide<Sum, BYTES, kByIndex, 1, ROWS, TAPS>;
  if constexpr (ROWS <= max_slide_rows(2)) {
    tiles.slide[kByVectors][2][ROWS][TAPS] = slide<Sum, BYTES, kByVectors, 2, ROWS, TAPS>;
    tiles.slide[kByNumbers][2][ROWS][TAPS] = slide<Sum, BYTES, kByNumbers, 2, ROWS, TAPS>;
  }
  if constexpr (ROWS <= kMaxSlideTapsRows) {
    enter_slide_taps<Sum, BYTES, ACCS, false, ROWS, TAPS>(tiles);
    enter_slide_taps<Sum, BYTES, ACCS, true, ROWS, TAPS>(tiles);
  }
}

template <typename Sum, int BYTES, int ACCS, int ROWS, int TAPS>
void enter_slides(SumTiles<Sum>& tiles) {
  if constexpr (TAPS >= 1) {
    enter_slides_of<Sum, BYTES, ACCS, ROWS, TAPS>(tiles);
    enter_slides<Sum, BYTES, ACCS, ROWS, TAPS - 1>(tiles);
  } else if constexpr (ROWS > 1) {
    enter_slides<Sum, BYTES, ACCS, ROWS - 1, kMaxSlideTaps>(tiles);
  }
}

}  // namespace
}  // namespace convgrad::cpu
