// The copies between tensors and the vectors that tiles read and write: the one place where a number is
// rounded. Included after tile.inl, whose vectors they share.

namespace convgrad::cpu {
namespace {

// To bfloat16: the upper half of a float32, rounded to the nearest, and to the even one of two. NaN becomes the quiet one
// that torch makes.
template <int LANES>
inline void round_to_bfloat16(const typename VectorOf<float, LANES * 4>::type& from,
                              at::BFloat16* to) {
  using Bits = typename VectorOf<uint32_t, LANES * 4>::type;
  using Ints = typename VectorOf<int32_t, LANES * 4>::type;
  using Halves = typename VectorOf<uint16_t, LANES * 2>::type;
  const Bits bits = (Bits)from;  // casts of vectors keep their bits
  const Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Bits is_nan = (Bits)((Ints)(bits & 0x7fffffff) > 0x7f800000);
  const Bits result = (is_nan & 0x7fc0) | (~is_nan & rounded);
  store(__builtin_convertvector(result, Halves), reinterpret_cast<uint16_t*>(to));
}

// A vector to elements of another type. A type that the compiler cannot convert needs a case.
template <typename From, typename To, int LANES>
inline void store_as(const typename VectorOf<From, LANES * sizeof(From)>::type& from, To* to) {
  if constexpr (std::is_same_v<From, To>)
    store(from, to);
  else if constexpr (std::is_same_v<To, at::BFloat16>)
    round_to_bfloat16<LANES>(from, to);
  else
    store(__builtin_convertvector(from, typename VectorOf<To, LANES * sizeof(To)>::type), to);
}

template <typename From, typename To, int LANES>
inline void convert_vector(const From* from, To* to) {
  typename VectorOf<From, LANES * sizeof(From)>::type vector;
  load(from, vector);
  store_as<From, To, LANES>(vector, to);
}

// visit(lanes, row, at) for vectors that cover `count` elements of each row, of which the last one may overlap the one
// before it: as wide as LANES, or as the count allows.
template <int LANES, typename Visit>
inline void for_each_vector(int64_t rows, int64_t count, const Visit& visit) {
  if constexpr (LANES > 1)
    if (count < LANES) return for_each_vector<LANES / 2>(rows, count, visit);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t at = 0; at < count; at += LANES)
      visit(std::integral_constant<int, LANES>(), row, at + LANES <= count ? at : count - LANES);
}

// Rows of adjacent elements, and the distances between them.
template <typename From, typename To>
struct RowsArgs {
  const From* from;
  int64_t from_row;
  To* to;
  int64_t to_row;
  int64_t rows, count;
};

template <typename From, typename To, int LANES>
inline void convert_rows(const RowsArgs<From, To>& s) {
  for_each_vector<LANES>(s.rows, s.count, [&](auto lanes, int64_t row, int64_t at) {
    convert_vector<From, To, lanes>(s.from + row * s.from_row + at, s.to + row * s.to_row + at);
  });
}

// low = a0 b0 a1 b1 and high = a2 b2 a3 b3. Results are references, because no calling convention returns a
// vector that is wider than the target's registers.
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
template <typename Sum, typename To>
void transpose_block(const Sum* from, int64_t from_stride, To* to, int64_t to_stride) {
  using V = typename VectorOf<Sum, 4 * sizeof(Sum)>::type;
  V row[4], even[2], odd[2], column[4];
  for (int i = 0; i < 4; ++i) load(from + i * from_stride, row[i]);
  interleave(row[0], row[2], even[0], even[1]);
  interleave(row[1], row[3], odd[0], odd[1]);
  interleave(even[0], odd[0], column[0], column[1]);
  interleave(even[1], odd[1], column[2], column[3]);
  for (int j = 0; j < 4; ++j) store_as<Sum, To, 4>(column[j], to + j * to_stride);
}

// Visits blocks of four vectors by four lanes where the tensor's elements of a lane are adjacent, and returns
// the number of lanes that the blocks cover. They are visited 64 vectors at a time, so that both sides stay in
// the cache. The last block of four vectors overlaps the one before it where the count is no multiple of four.
template <int LANES, typename Args, typename Transpose>
int64_t for_each_block(const Args& s, const Transpose& transpose) {
  if (LANES % 4 != 0 || s.step != 1 || s.count < 4) return 0;
  constexpr int64_t kVectors = 64;
  const int64_t lanes = s.lanes / 4 * 4;
  for (int64_t begin = 0; begin < s.count; begin += kVectors) {
    const int64_t end = begin + kVectors < s.count ? begin + kVectors : s.count;
    for (int64_t lane = 0; lane < lanes; lane += 4)
      for (int64_t q = begin; q < end; q += 4) {
        const int64_t from = q + 4 <= s.count ? q : s.count - 4;
        transpose(s.tensor + from + lane * s.lane_stride,
                  s.vectors + from * s.vector_stride + lane);
      }
  }
  return lanes;
}

template <typename Sum, int LANES>
void pack(const PackArgs<Sum>& s) {
  int64_t done = 0;
  if (s.lane_stride == 1) {
    convert_rows<Sum, Sum, LANES>({s.tensor, s.step, s.vectors, s.vector_stride, s.count, s.lanes});
    done = s.lanes;
  } else {
    done = for_each_block<LANES>(s, [&](const Sum* tensor, Sum* vectors) {
      transpose_block(tensor, s.lane_stride, vectors, s.vector_stride);
    });
  }
  if (done == LANES) return;
  for (int64_t q = 0; q < s.count; ++q)
    for (int64_t lane = done; lane < LANES; ++lane)
      s.vectors[q * s.vector_stride + lane] =
          lane < s.lanes ? s.tensor[q * s.step + lane * s.lane_stride] : Sum(0);
}

template <typename Stored, typename Sum, int LANES>
void unpack(const UnpackArgs<Stored, Sum>& s) {
  if (s.lane_stride == 1)
    return convert_rows<Sum, Stored, LANES>(
        {s.vectors, s.vector_stride, s.tensor, s.step, s.count, s.lanes});
  const int64_t done = for_each_block<LANES>(s, [&](Stored* tensor, const Sum* vectors) {
    transpose_block(vectors, s.vector_stride, tensor, s.lane_stride);
  });
  for (int64_t lane = done; lane < s.lanes; ++lane)
    for (int64_t q = 0; q < s.count; ++q)
      s.tensor[q * s.step + lane * s.lane_stride] =
          static_cast<Stored>(s.vectors[q * s.vector_stride + lane]);
}

template <typename Sum, int LANES>
void copy_vectors(const CopyArgs<Sum>& s) {
  for (int64_t q = 0; q < s.count; ++q)
    convert_vector<Sum, Sum, LANES>(s.from + q * s.from_stride, s.to + q * s.to_stride);
}

// The compiler makes shuffles of a constant step.
template <typename Sum, int LANES>
void load_rows(const LoadArgs<Sum>& s) {
  if (s.step == 1)
    return convert_rows<Sum, Sum, LANES>({s.from, s.from_row, s.to, s.to_row, s.rows, s.count});
  for (int64_t r = 0; r < s.rows; ++r) {
    const Sum* from = s.from + r * s.from_row;
    Sum* to = s.to + r * s.to_row;
    if (s.step == 2)
      for (int64_t j = 0; j < s.count; ++j) to[j] = from[j * 2];
    else
      for (int64_t j = 0; j < s.count; ++j) to[j] = from[j * s.step];
  }
}

template <typename Stored, typename Sum, int LANES>
inline void store_vector(const Sum* from, Sum bias, Stored* to) {
  typename VectorOf<Sum, LANES * sizeof(Sum)>::type sums;
  load(from, sums);
  store_as<Sum, Stored, LANES>(sums + bias, to);
}

// The elements of `low` and then of `high` at even places become those of `even`.
template <typename V, int LANES>
void zip_into(const V& even, V& low, V& high) {
#if defined(__clang__)
  for (int i = 0; i < LANES; i += 2) low[i] = even[i / 2], high[i] = even[(LANES + i) / 2];
#else
  using Order = decltype(even < even);
  Order of_low{}, of_high{};
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) {
    of_low[i] = i % 2 == 0 ? i / 2 : LANES + i;
    of_high[i] = i % 2 == 0 ? (LANES + i) / 2 : LANES + i;
  }
  low = __builtin_shuffle(even, low, of_low);
  high = __builtin_shuffle(even, high, of_high);
#endif
}

// Stores sums at even places, and what is between them again. Only places between two sums are read and written: returns
// the number of sums that are stored.
template <typename Stored, typename Sum, int LANES>
inline int64_t store_pairs(const Sum* from, Sum bias, Stored* to, int64_t count) {
  int64_t at = 0;
  if constexpr (std::is_same_v<Stored, Sum> && LANES >= 2)
    for (; at + LANES < count; at += LANES) {
      typename VectorOf<Sum, LANES * sizeof(Sum)>::type sums, low, high;
      load(from + at, sums);
      load(to + 2 * at, low);
      load(to + 2 * at + LANES, high);
      sums += bias;
      zip_into<decltype(sums), LANES>(sums, low, high);
      store(low, to + 2 * at);
      store(high, to + 2 * at + LANES);
    }
  return at;
}

template <typename Stored, typename Sum, int LANES>
void store_rows(const StoreArgs<Stored, Sum>& s) {
  if (s.step == 1)
    return for_each_vector<LANES>(s.rows, s.count, [&](auto lanes, int64_t row, int64_t at) {
      store_vector<Stored, Sum, lanes>(s.from + row * s.from_row + at, s.bias,
                                       s.to + row * s.to_row + at);
    });
  for (int64_t r = 0; r < s.rows; ++r) {
    const Sum* from = s.from + r * s.from_row;
    Stored* to = s.to + r * s.to_row;
    for (int64_t j = s.step == 2 ? store_pairs<Stored, Sum, LANES>(from, s.bias, to, s.count) : 0;
         j < s.count; ++j)
      to[j * s.step] = static_cast<Stored>(from[j] + s.bias);
  }
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

// Splits `pairs` pairs of adjacent elements of a row, of which the last vector may overlap the one before it; false if
// they do not fill a vector.
template <typename Sum, int LANES>
bool split_pairs(const SplitArgs<Sum>& s, int64_t pairs) {
  using Vector = typename VectorOf<Sum, LANES * sizeof(Sum)>::type;
  if (LANES < 2 || pairs < LANES) return false;
  for (int64_t p = 0; p < pairs; p += LANES) {
    const int64_t at = p + LANES <= pairs ? p : pairs - LANES;
    Vector low, high, even, odd;
    load(s.from + 2 * at, low);
    load(s.from + 2 * at + LANES, high);
    unzip<Vector, LANES>(low, high, even, odd);
    store(even, s.even + at);
    store(odd, s.odd + at);
  }
  return true;
}

template <typename Sum, int LANES>
void split_rows(const SplitArgs<Sum>& s) {
  const int64_t pairs = s.count / 2;
  SplitArgs<Sum> row = s;
  for (int64_t r = 0; r < s.rows; ++r) {
    row.from = s.from + r * s.from_row;
    row.even = s.even + r * s.to_row, row.odd = s.odd + r * s.to_row;
    const bool done =
        s.step == 1 && (split_pairs<Sum, LANES>(row, pairs) || split_pairs<Sum, 4>(row, pairs) ||
                        split_pairs<Sum, 2>(row, pairs));
    for (int64_t p = done ? pairs : 0; p < pairs; ++p) {
      row.even[p] = row.from[2 * p * s.step];
      row.odd[p] = row.from[(2 * p + 1) * s.step];
    }
    if (s.count % 2 != 0) row.even[pairs] = row.from[(s.count - 1) * s.step];
  }
}

template <typename Sum, int LANES>
void enter_loads(SumTiles<Sum>& tiles) {
  tiles.pack = pack<Sum, LANES>;
  tiles.load_rows = load_rows<Sum, LANES>;
  tiles.split_rows = split_rows<Sum, LANES>;
  tiles.copy_vectors = copy_vectors<Sum, LANES>;
}

template <int LANES, typename Stored, typename Sum>
void enter_stores(Tiles<Stored, Sum>& tiles) {
  tiles.unpack = unpack<Stored, Sum, LANES>;
  tiles.store_rows = store_rows<Stored, Sum, LANES>;
}

}  // namespace
}  // namespace convgrad::cpu
