// What each instruction set's translation unit provides.
#pragma once

#include "conv_geometry.h"
#include "cpu/tile.h"

namespace convgrad::cpu {

template <typename T>
const Tiles<T>& baseline_tiles();

#if defined(__x86_64__)
template <typename T>
const Tiles<T>& avx2_tiles();
template <typename T>
const Tiles<T>& avx512_tiles();
#endif

}  // namespace convgrad::cpu
