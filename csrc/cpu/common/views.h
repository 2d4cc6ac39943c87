// Tensors of four axes as the fast loops see them: strides, in elements, and a pointer.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "geometry/range.h"

namespace convgrad::cpu {

// Strides of images (n, c, h, w) in any memory format, or of a weight (c_out, c_in, k_h, k_w).
struct Strides {
  int64_t n, c, h, w;

  // An axis of one element can have any stride, because nothing is read along it. Here it has the stride of
  // a contiguous tensor.
  static Strides of(at::IntArrayRef sizes, at::IntArrayRef strides) {
    int64_t found[5] = {0, 0, 0, 0, 1};  // the last one is that of the elements
    for (int64_t axis = 3; axis >= 0; --axis) {
      const int64_t inner = axis == 3 ? 1 : sizes[axis + 1];
      found[axis] = sizes[axis] == 1 ? place(inner, found[axis + 1]) : strides[axis];
    }
    return {found[0], found[1], found[2], found[3]};
  }
  static Strides of(const at::Tensor& t) { return of(t.sizes(), t.strides()); }
};

template <typename T>
struct Images : Strides {
  T* data;

  T* at(int64_t n_, int64_t c_) const { return data + n_ * n + c_ * c; }
};

}  // namespace convgrad::cpu
