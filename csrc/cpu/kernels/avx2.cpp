// AVX2 and FMA: 16 registers of 32 bytes.
#if defined(__x86_64__)
#include "cpu/kernels/isa.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#include "cpu/kernels/make_tiles.inl"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
const Tiles<Stored, Sum>& avx2_tiles() {
  static const Tiles<Stored, Sum> tiles = make_tiles<32, 12, Stored, Sum>("avx2");
  return tiles;
}

template const Tiles<float, float>& avx2_tiles();
template const Tiles<at::BFloat16, float>& avx2_tiles();
template const Tiles<double, double>& avx2_tiles();

}  // namespace convgrad::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
