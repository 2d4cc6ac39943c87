// AVX-512: 32 registers of 64 bytes.
#if defined(__x86_64__)
#include "cpu/kernels/isa.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx2,fma")
#endif

#include "cpu/kernels/make_tiles.inl"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
const Tiles<Stored, Sum>& avx512_tiles() {
  static const Tiles<Stored, Sum> tiles = make_tiles<64, 28, Stored, Sum>("avx512");
  return tiles;
}

template const Tiles<float, float>& avx512_tiles();
template const Tiles<at::BFloat16, float>& avx512_tiles();
template const Tiles<double, double>& avx512_tiles();

}  // namespace convgrad::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
