// grad_weight of a 3x3 kernel of stride 1 with fewer multiplications: docs/winograd.md.
#pragma once

#include "cpu/winograd/weight_blocking.h"

namespace convgrad::cpu {

template <typename Sum>
void grad_weight_winograd(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                          const WinogradWeightBlocking& blocking,
                          const WeightOperands<Sum>& operands);

}  // namespace convgrad::cpu
