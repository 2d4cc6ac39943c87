// Tensors as the fast loops see them: a pointer and four strides.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "conv_geometry.h"

namespace convgrad::cpu {

// Images (n, c, h, w), in whatever order they lie.
template <typename T>
struct Images {
  T* data;
  int64_t n, c, h, w;  // strides

  T* at(int64_t n_, int64_t c_) const { return data + n_ * n + c_ * c; }
};

// An axis of one element can have any stride, as nothing is read along it: it gets the one that a
// contiguous tensor has there.
template <typename T>
Images<T> images_at(T* data, const at::Tensor& t) {
  int64_t strides[5] = {0, 0, 0, 0, 1};  // the last one stands for the elements
  for (int64_t axis = 3; axis >= 0; --axis) {
    const int64_t inner = axis == 3 ? 1 : t.size(axis + 1);
    strides[axis] = t.size(axis) == 1 ? place(inner, strides[axis + 1]) : t.stride(axis);
  }
  return {data, strides[0], strides[1], strides[2], strides[3]};
}

template <typename T>
Images<T> images_of(at::Tensor& t) {
  return images_at(t.mutable_data_ptr<T>(), t);
}

template <typename T>
Images<const T> images_of(const at::Tensor& t) {
  return images_at(t.const_data_ptr<T>(), t);
}

// Blocks of `size` that cover `extent`, as equal as can be.
struct Blocks {
  int64_t count, size;

  static Blocks covering(int64_t extent, int64_t largest) {
    const int64_t count = (extent + largest - 1) / largest;
    return {count, count == 0 ? 0 : (extent + count - 1) / count};
  }
  Range at(int64_t block, int64_t extent) const {
    return Range::within(block * size, (block + 1) * size, extent);
  }
};

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

// The grain of at::parallel_for for items of `work` multiply-adds each: waking a thread takes as long
// as it takes this one to do a few hundred thousand of them.
constexpr int64_t grain_of(int64_t work) {
  constexpr int64_t kWorkWorthAThread = 1 << 19;
  return 1 + kWorkWorthAThread / std::max<int64_t>(1, work);
}

}  // namespace convgrad::cpu
