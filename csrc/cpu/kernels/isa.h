// The tables that the translation units of the instruction sets provide.
#pragma once

#include <c10/util/BFloat16.h>

#include "cpu/kernels/tiles.h"
#include "geometry/range.h"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
const Tiles<Stored, Sum>& baseline_tiles();

#if defined(__x86_64__)
template <typename Stored, typename Sum>
const Tiles<Stored, Sum>& avx2_tiles();
template <typename Stored, typename Sum>
const Tiles<Stored, Sum>& avx512_tiles();
// Of pairs of bfloat16 numbers, which copies move as they move a float.
template <typename Stored>
const Tiles<Stored, float>& avx512_bf16_tiles();
#endif

}  // namespace convgrad::cpu
