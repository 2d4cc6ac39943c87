// What the compiler's default target offers: SSE2 on x86-64, NEON on aarch64.
#include "cpu/kernels/isa.h"
#include "cpu/kernels/tiles.inl"

namespace convgrad::cpu {

template <typename T>
const Tiles<T>& baseline_tiles() {
  static const Tiles<T> tiles = make_tiles<T, 16, 12>();
  return tiles;
}

template const Tiles<float>& baseline_tiles();
template const Tiles<double>& baseline_tiles();

}  // namespace convgrad::cpu
