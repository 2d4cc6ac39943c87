// Memory that a pass takes beside its operands.
#pragma once

#include <ATen/ATen.h>

#include <limits>

namespace convgrad::cpu {

template <typename T>
at::Tensor room_for(int64_t elements) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / static_cast<int64_t>(sizeof(T));
  TORCH_CHECK(elements < kMost,
              "convgrad_ext: the packed weight of this convolution has more than ", kMost,
              " elements, which no memory can hold");
  return at::empty({elements}, c10::CppTypeToScalarType<T>::value);
}

// Hands out one block of memory part by part. Without memory it counts what would be handed out.
template <typename T>
struct Carver {
  T* memory = nullptr;
  int64_t used = 0;

  T* next(int64_t size) {
    T* const part = memory ? memory + used : nullptr;
    used += size;
    return part;
  }
};

}  // namespace convgrad::cpu
