// A request for memory that is read soon.
#pragma once

#include <cstdint>

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

// Asks for some elements, line by line.
template <typename T>
void prefetch_run(const T* from, int64_t count) {
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t at = 0; at < count; at += kLine) prefetch(from + at);
}

}  // namespace convgrad::cpu
