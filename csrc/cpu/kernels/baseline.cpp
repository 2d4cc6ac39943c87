// The compiler's default target: SSE2 on x86-64, NEON on aarch64.
#include "cpu/kernels/isa.h"
#include "cpu/kernels/make_tiles.inl"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
const Tiles<Stored, Sum>& baseline_tiles() {
  static const Tiles<Stored, Sum> tiles = make_tiles<16, 12, Stored, Sum>("baseline");
  return tiles;
}

template const Tiles<float, float>& baseline_tiles();
template const Tiles<at::BFloat16, float>& baseline_tiles();
template const Tiles<double, double>& baseline_tiles();

}  // namespace convgrad::cpu
