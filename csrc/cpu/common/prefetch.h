// A request for memory that is read soon.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/target.h"

namespace convgrad::cpu {

// Asks for the line of `from`. To the compiler the empty asm has effects: GCC takes a function that does nothing but
// prefetch for one without effects, and leaves its calls out.
inline void prefetch(const void* from) {
  __builtin_prefetch(from);
  asm volatile("");
}

// The same, into L2 at least.
inline void prefetch_into_l2(const void* from) {
  __builtin_prefetch(from, 0, 2);
  asm volatile("");
}

// Asks for `count` adjacent elements of each piece, line by line; pieces are `step` elements apart.
template <typename T>
void prefetch_pieces(const T* from, int64_t pieces, int64_t step, int64_t count) {
  constexpr int64_t of_line = Target::kLine / sizeof(T);
  for (int64_t piece = 0; piece < pieces; ++piece, from += step)
    for (int64_t at = 0; at < count + of_line - 1; at += of_line)
      prefetch(from + std::min(at, count - 1));
}

}  // namespace convgrad::cpu
