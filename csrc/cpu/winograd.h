// The passes under a 3x3 kernel of stride 1 with fewer multiplications: docs/winograd.md.
#pragma once

#include <ATen/core/Tensor.h>

#include "cpu/schedule.h"
#include "cpu/tile.h"

namespace convgrad::cpu {

// Whether Winograd's loops can do this pass, and with less work than those over all taps. It is counted
// for one image and for kFilters filters, whatever the operands have: neither a larger batch nor the
// filters' halves then go another way.
constexpr int64_t kFilters = 64;

template <typename T>
bool is_winograd(const Tiles<T>& tiles, const Gather<T>& g);
template <typename T>
bool is_winograd(const Tiles<T>& tiles, const ConvShape& shape);  // grad_weight

template <typename T>
void gather_winograd(const Tiles<T>& tiles, const Gather<T>& g);

template <typename T>
void grad_weight_winograd(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& input,
                          const at::Tensor& grad_output, at::Tensor& grad_weight);

}  // namespace convgrad::cpu
