// Winograd's transforms of vectors. Included after tile.inl, whose vectors they share.

namespace convgrad::cpu {
namespace {

// y = M x M^T, where `line` multiplies one row or column by M.
template <int FROM, int TO, typename V, typename Line>
void both_axes(const V (&x)[FROM][FROM], V (&y)[TO][TO], const Line& line) {
  V half[TO][FROM];
#pragma GCC unroll 4
  for (int j = 0; j < FROM; ++j) {
    V column[FROM], result[TO];
#pragma GCC unroll 4
    for (int i = 0; i < FROM; ++i) column[i] = x[i][j];
    line(column, result);
#pragma GCC unroll 4
    for (int i = 0; i < TO; ++i) half[i][j] = result[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < TO; ++i) line(half[i], y[i]);
}

template <typename Sum, int LANES>
void transform_sources(const SourceArgs<Sum>& t) {
  using Vector = typename VectorOf<Sum, LANES * sizeof(Sum)>::type;
  for (int64_t p = 0; p < t.count; p += LANES) {
    Vector sources[4][4], transformed[4][4];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      load(t.rows[i / 4] + i % 2 * t.odd_columns + i % 4 / 2 + p, sources[i / 4][i % 4]);
    both_axes(sources, transformed, [](const Vector(&s)[4], Vector(&w)[4]) {
      w[0] = s[0] - s[2], w[1] = s[1] + s[2], w[2] = s[2] - s[1], w[3] = s[1] - s[3];
    });
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      store(transformed[i / 4][i % 4], t.transformed + i * t.transformed_stride + p);
  }
}

template <typename Sum, int LANES>
void transform_taps(const TapArgs<Sum>& t) {
  using Vector = typename VectorOf<Sum, LANES * sizeof(Sum)>::type;
  for (int64_t at = 0; at < t.count * LANES; at += LANES) {
    Vector taps[3][3], transformed[4][4];
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i)
      load(t.taps + i / 3 * t.down + i % 3 * t.right + at, taps[i / 3][i % 3]);
    both_axes(taps, transformed, [](const Vector(&g)[3], Vector(&w)[4]) {
      const Vector outer = Sum(0.5) * (g[0] + g[2]), inner = Sum(0.5) * g[1];
      w[0] = g[0], w[1] = outer + inner, w[2] = outer - inner, w[3] = g[2];
    });
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      store(transformed[i / 4][i % 4], t.transformed + i * t.transformed_stride + at);
  }
}

// low, high = a0 b0 a1 b1 ...
template <typename V, int LANES>
void zip(const V& a, const V& b, V& low, V& high) {
#if defined(__clang__)
  for (int i = 0; i < LANES; ++i) {
    const int from = i / 2;
    low[i] = i % 2 ? b[from] : a[from];
    high[i] = i % 2 ? b[from + LANES / 2] : a[from + LANES / 2];
  }
#else
  using Order = decltype(a < b);
  Order order{};
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) order[i] = i / 2 + i % 2 * LANES;
  low = __builtin_shuffle(a, b, order);
  high = __builtin_shuffle(a, b, order + LANES / 2);
#endif
}

template <typename Sum, int LANES>
void restore_outputs(const OutputArgs<Sum>& t) {
  using Vector = typename VectorOf<Sum, LANES * sizeof(Sum)>::type;
  for (int64_t p = 0; p < t.count; p += LANES) {
    Vector transformed[4][4], output[2][2];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      load(t.transformed + i * t.transformed_stride + p, transformed[i / 4][i % 4]);
    both_axes(transformed, output, [](const Vector(&w)[4], Vector(&d)[2]) {
      d[0] = w[0] + w[1] + w[2], d[1] = w[1] - w[2] - w[3];
    });
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      Vector low, high;
      zip<Vector, LANES>(output[i][0] + t.bias, output[i][1] + t.bias, low, high);
      store(low, t.rows[i] + 2 * p);
      store(high, t.rows[i] + 2 * p + LANES);
    }
  }
}

template <typename Sum, int LANES>
void transform_grads(const GradArgs<Sum>& t) {
  using Vector = typename VectorOf<Sum, LANES * sizeof(Sum)>::type;
  for (int64_t at = 0; at < t.count * LANES; at += LANES) {
    Vector output[2][2], transformed[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) load(t.rows[i / 2] + 2 * at + i % 2 * LANES, output[i / 2][i % 2]);
    both_axes(output, transformed, [](const Vector(&y)[2], Vector(&w)[4]) {
      w[0] = y[0], w[1] = y[0] + y[1], w[2] = y[0] - y[1], w[3] = -y[1];
    });
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      store(transformed[i / 4][i % 4], t.transformed + i * t.transformed_stride + at);
  }
}

template <typename Sum, int LANES>
void restore_taps(const WeightArgs<Sum>& t) {
  using Vector = typename VectorOf<Sum, LANES * sizeof(Sum)>::type;
  for (int64_t at = 0; at < t.count * LANES; at += LANES) {
    Vector transformed[4][4], taps[3][3];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) load(t.transformed + i * t.stride + at, transformed[i / 4][i % 4]);
    both_axes(transformed, taps, [](const Vector(&w)[4], Vector(&g)[3]) {
      const Vector sum = Sum(0.5) * (w[1] + w[2]);
      g[0] = w[0] + sum, g[1] = Sum(0.5) * (w[1] - w[2]), g[2] = sum + w[3];
    });
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) store(taps[i / 3][i % 3], t.taps + i * t.stride + at);
  }
}

template <typename Sum, int LANES, typename Table>
void enter_transforms(Table& tiles) {
  tiles.transform_sources = transform_sources<Sum, LANES>;
  tiles.transform_taps = transform_taps<Sum, LANES>;
  tiles.restore_outputs = restore_outputs<Sum, LANES>;
  tiles.transform_grads = transform_grads<Sum, LANES>;
  tiles.restore_taps = restore_taps<Sum, LANES>;
}

}  // namespace
}  // namespace convgrad::cpu
