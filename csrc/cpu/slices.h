// A pass, some images at a time, where operands and results are copied.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "conv_shape.h"
#include "cpu/common/blocks.h"

namespace convgrad::cpu {

// As many images as fit into this memory with their results; as many as the weight has memory for, if that is
// more, because every slice packs it. The same for any number of threads: grad_weight adds up slices.
inline Blocks slices_of(const ConvShape& shape, int64_t bytes_of_element) {
  constexpr int64_t kBytes = 4 << 20;
  const int64_t pixels = product(shape.C_in, product(shape.h.I, shape.w.I)),
                outputs = product(shape.C_out, shape.output_pixels());
  const int64_t image = std::max<int64_t>(1, product(pixels + outputs, bytes_of_element));
  const int64_t weight =
      product(product(shape.C_out, shape.C_in_per_group()), shape.taps()) * bytes_of_element;
  return Blocks::covering(shape.N, std::max<int64_t>(1, std::max(kBytes, 2 * weight) / image));
}

// Calls `run` with the shape and the range of images of each slice.
template <typename Run>
void for_each_slice(const ConvShape& whole, int64_t bytes_of_element, const Run& run) {
  const Blocks slices = slices_of(whole, bytes_of_element);
  for (int64_t i : Range{0, slices.count}) {
    const Range images = slices.at(i, whole.N);
    ConvShape slice = whole;
    slice.N = images.size();
    run(slice, images);
  }
}

inline at::Tensor images_of(const at::Tensor& tensor, Range images) {
  return tensor.narrow(0, images.lo, images.size());
}

}  // namespace convgrad::cpu
