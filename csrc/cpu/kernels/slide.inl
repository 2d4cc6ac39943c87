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

// A source is loaded once for all rows that it meets.
template <typename Sum, int BYTES, bool SPREAD, int VECS, int ROWS, int TAPS>
void slide(const SlideArgs<Sum>& s) {
  using Vector = typename VectorOf<Sum, BYTES>::type;
  constexpr int LANES = BYTES / sizeof(Sum);
  Vector acc[ROWS][VECS] = {};
  for (int64_t run = 0; run < s.run_count; ++run) {
    const Sum* source = s.source + s.runs[run].a;
    const Sum* weight = s.weight + s.runs[run].b;
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
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r)
        if (0 <= at - r && at - r < TAPS)
#pragma GCC unroll 2
          for (int v = 0; v < VECS; ++v) acc[r][v] += taps[at - r][v] * sources[v];
    }
  }
  store_sums<Sum, Vector, VECS, ROWS>(acc, s.acc, s.acc_stride, s.fresh);
}

// A row of grad_output meets a source under each tap: the sums of the taps stay in registers.
template <typename Sum, int BYTES, int ROWS, int TAPS, int COLUMNS>
void slide_taps(const SlideTapsArgs<Sum>& s) {
  using Vector = typename VectorOf<Sum, BYTES>::type;
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

template <typename Sum, int BYTES, int ACCS, int ROWS, int TAPS, typename Stored>
void enter_slide_taps(Tiles<Stored, Sum>& tiles) {
  tiles.slide_taps[1][ROWS][TAPS] = slide_taps<Sum, BYTES, ROWS, TAPS, 1>;
  if constexpr (2 * TAPS <= ACCS)
    tiles.slide_taps[2][ROWS][TAPS] = slide_taps<Sum, BYTES, ROWS, TAPS, 2>;
  if constexpr (3 * TAPS <= ACCS)
    tiles.slide_taps[3][ROWS][TAPS] = slide_taps<Sum, BYTES, ROWS, TAPS, 3>;
}

template <typename Sum, int BYTES, int ACCS, int ROWS, int TAPS, typename Stored>
void enter_slides_of(Tiles<Stored, Sum>& tiles) {
  tiles.slide[false][1][ROWS][TAPS] = slide<Sum, BYTES, false, 1, ROWS, TAPS>;
  tiles.slide[true][1][ROWS][TAPS] = slide<Sum, BYTES, true, 1, ROWS, TAPS>;
  if constexpr (ROWS <= max_slide_rows(2)) {
    tiles.slide[false][2][ROWS][TAPS] = slide<Sum, BYTES, false, 2, ROWS, TAPS>;
    tiles.slide[true][2][ROWS][TAPS] = slide<Sum, BYTES, true, 2, ROWS, TAPS>;
  }
  if constexpr (ROWS <= kMaxSlideTapsRows) enter_slide_taps<Sum, BYTES, ACCS, ROWS, TAPS>(tiles);
}

template <typename Sum, int BYTES, int ACCS, int ROWS, int TAPS, typename Stored>
void enter_slides(Tiles<Stored, Sum>& tiles) {
  if constexpr (TAPS >= 1) {
    enter_slides_of<Sum, BYTES, ACCS, ROWS, TAPS>(tiles);
    enter_slides<Sum, BYTES, ACCS, ROWS, TAPS - 1>(tiles);
  } else if constexpr (ROWS > 1) {
    enter_slides<Sum, BYTES, ACCS, ROWS - 1, kMaxSlideTaps>(tiles);
  }
}

}  // namespace
}  // namespace convgrad::cpu
