// A request for memory that is read soon.
#pragma once

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

}  // namespace convgrad::cpu
