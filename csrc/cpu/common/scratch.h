// The memory of a pass beside its operands.
#pragma once

#include <ATen/ATen.h>

#include <limits>

namespace convgrad::cpu {

template <typename T>
at::Tensor allocate(int64_t elements) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / static_cast<int64_t>(sizeof(T));
  TORCH_CHECK(elements < kMost,
              "convgrad_ext: the packed weight of this convolution has more than ", kMost,
              " elements, which no memory can hold");
  return at::empty({elements}, c10::CppTypeToScalarType<T>::value);
}

// Divides one piece of memory into pieces, one after the other. Without memory it only counts their elements.
template <typename T>
struct ScratchPieces {
  T* memory = nullptr;
  int64_t used = 0;  // elements of all pieces so far

  T* next(int64_t size) {
    T* const piece = memory ? memory + used : nullptr;
    used += size;
    return piece;
  }
};

}  // namespace convgrad::cpu
