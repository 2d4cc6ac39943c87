// Winograd's transforms of vectors, and what they need of the rows of an image. Behind tile.inl, whose
// vectors they share.

namespace convgrad::cpu {
namespace {

// y = M x M^T, where `line` multiplies one line by M.
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

template <typename T, int LANES>
void window_of_sources(const SourceArgs<T>& t) {
  using Vector = typename VectorOf<T, LANES * sizeof(T)>::type;
  for (int64_t p = 0; p < t.count; p += LANES) {
    Vector sources[4][4], window[4][4];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i)
      load(t.rows[i / 4] + i % 2 * t.odd_columns + i % 4 / 2 + p, sources[i / 4][i % 4]);
    both_axes(sources, window, [](const Vector(&s)[4], Vector(&w)[4]) {
      w[0] = s[0] - s[2], w[1] = s[1] + s[2], w[2] = s[2] - s[1], w[3] = s[1] - s[3];
    });
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) store(window[i / 4][i % 4], t.window + i * t.window_stride + p);
  }
}

template <typename T, int LANES>
void window_of_taps(const TapArgs<T>& t) {
  using Vector = typename VectorOf<T, LANES * sizeof(T)>::type;
  for (int64_t at = 0; at < t.count * LANES; at += LANES) {
    Vector taps[3][3], window[4][4];
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i)
      load(t.taps + i / 3 * t.down + i % 3 * t.right + at, taps[i / 3][i % 3]);
    both_axes(taps, window, [](const Vector(&g)[3], Vector(&w)[4]) {
      const Vector outer = T(0.5) * (g[0] + g[2]), inner = T(0.5) * g[1];
      w[0] = g[0], w[1] = outer + inner, w[2] = outer - inner, w[3] = g[2];
    });
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) store(window[i / 4][i % 4], t.window + i * t.window_stride + at);
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

// even, odd = the elements of a and then of b at even and at odd places.
template <typename V, int LANES>
void unzip(const V& a, const V& b, V& even, V& odd) {
#if defined(__clang__)
  for (int i = 0; i < LANES; ++i) {
    const int at = 2 * i % LANES;
    even[i] = 2 * i < LANES ? a[at] : b[at];
    odd[i] = 2 * i < LANES ? a[at + 1] : b[at + 1];
  }
#else
  using Order = decltype(a < b);
  Order order{};
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) order[i] = 2 * i;
  even = __builtin_shuffle(a, b, order);
  odd = __builtin_shuffle(a, b, order + 1);
#endif
}

template <typename T, int LANES>
void patch_of_window(const PatchArgs<T>& t) {
  using Vector = typename VectorOf<T, LANES * sizeof(T)>::type;
  for (int64_t p = 0; p < t.count; p += LANES) {
    Vector window[4][4], patch[2][2];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) load(t.window + i * t.window_stride + p, window[i / 4][i % 4]);
    both_axes(window, patch, [](const Vector(&w)[4], Vector(&d)[2]) {
      d[0] = w[0] + w[1] + w[2], d[1] = w[1] - w[2] - w[3];
    });
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      Vector low, high;
      zip<Vector, LANES>(patch[i][0] + t.bias, patch[i][1] + t.bias, low, high);
      store(low, t.rows[i] + 2 * p);
      store(high, t.rows[i] + 2 * p + LANES);
    }
  }
}

template <typename T, int LANES>
void window_of_grad(const GradArgs<T>& t) {
  using Vector = typename VectorOf<T, LANES * sizeof(T)>::type;
  for (int64_t at = 0; at < t.count * LANES; at += LANES) {
    Vector patch[2][2], window[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) load(t.rows[i / 2] + 2 * at + i % 2 * LANES, patch[i / 2][i % 2]);
    both_axes(patch, window, [](const Vector(&y)[2], Vector(&w)[4]) {
      w[0] = y[0], w[1] = y[0] + y[1], w[2] = y[0] - y[1], w[3] = -y[1];
    });
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) store(window[i / 4][i % 4], t.window + i * t.window_stride + at);
  }
}

template <typename T, int LANES>
void taps_of_window(const WeightArgs<T>& t) {
  using Vector = typename VectorOf<T, LANES * sizeof(T)>::type;
  for (int64_t at = 0; at < t.count * LANES; at += LANES) {
    Vector window[4][4], taps[3][3];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) load(t.window + i * t.stride + at, window[i / 4][i % 4]);
    both_axes(window, taps, [](const Vector(&w)[4], Vector(&g)[3]) {
      const Vector sum = T(0.5) * (w[1] + w[2]);
      g[0] = w[0] + sum, g[1] = T(0.5) * (w[1] - w[2]), g[2] = sum + w[3];
    });
#pragma GCC unroll 9
    for (int i = 0; i < 9; ++i) store(taps[i / 3][i % 3], t.taps + i * t.stride + at);
  }
}

// Splits so many pairs, the last vector reaching back over the one before it; false if they do not
// fill one.
template <typename T, int LANES>
bool split_pairs(const SplitArgs<T>& s, int64_t pairs) {
  using Vector = typename VectorOf<T, LANES * sizeof(T)>::type;
  if (LANES < 2 || pairs < LANES) return false;
  for (int64_t p = 0; p < pairs; p += LANES) {
    const int64_t at = p + LANES <= pairs ? p : pairs - LANES;
    Vector low, high, even, odd;
    load(s.row + 2 * at, low);
    load(s.row + 2 * at + LANES, high);
    unzip<Vector, LANES>(low, high, even, odd);
    store(even, s.first + at);
    store(odd, s.second + at);
  }
  return true;
}

template <typename T, int LANES>
void split_row(const SplitArgs<T>& s) {
  const int64_t pairs = s.count / 2;
  const bool done = s.step == 1 && (split_pairs<T, LANES>(s, pairs) ||
                                    split_pairs<T, 4>(s, pairs) || split_pairs<T, 2>(s, pairs));
  for (int64_t p = done ? pairs : 0; p < pairs; ++p) {
    s.first[p] = s.row[2 * p * s.step];
    s.second[p] = s.row[(2 * p + 1) * s.step];
  }
  if (s.count % 2 != 0) s.first[pairs] = s.row[(s.count - 1) * s.step];
}

template <typename T, int LANES>
void enter_transforms(Tiles<T>& tiles) {
  tiles.window_of_sources = window_of_sources<T, LANES>;
  tiles.window_of_taps = window_of_taps<T, LANES>;
  tiles.patch_of_window = patch_of_window<T, LANES>;
  tiles.window_of_grad = window_of_grad<T, LANES>;
  tiles.taps_of_window = taps_of_window<T, LANES>;
  tiles.split_row = split_row<T, LANES>;
}

}  // namespace
}  // namespace convgrad::cpu
