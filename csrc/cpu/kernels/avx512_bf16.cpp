// AVX-512 with products of pairs of bfloat16 numbers.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/kernels/isa.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512bf16,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512bf16,avx2,fma")
#endif

#include "cpu/kernels/make_tiles.inl"

namespace convgrad::cpu {
namespace {

// A step of tiles of pairs: a float is the bits of two numbers, and their two products are added to a sum of
// float32. Numbers and sums below the least normal float32 count as zero.
struct Pairs {
  template <typename Vector>
  static inline __attribute__((always_inline)) void add(float a, const Vector& b, Vector& sums) {
    const Vector pair = (Vector)_mm512_set1_ps(a);
    sums = _mm512_dpbf16_ps(sums, (__m512bh)pair, (__m512bh)b);
  }
};

}  // namespace

template <typename Stored>
const Tiles<Stored, float>& avx512_bf16_tiles() {
  static const Tiles<Stored, float> tiles = [] {
    Tiles<Stored, float> pairs = avx512_tiles<Stored, float>();
    pairs.pairs = true;
    enter_tiles<Pairs, 64, 28>(pairs);
    return pairs;
  }();
  return tiles;
}

template const Tiles<float, float>& avx512_bf16_tiles();
template const Tiles<at::BFloat16, float>& avx512_bf16_tiles();

}  // namespace convgrad::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
