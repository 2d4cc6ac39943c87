// grad_weight over all taps.
#pragma once

#include "cpu/common/views.h"
#include "cpu/direct/weight_blocking.h"

namespace convgrad::cpu {

template <typename Sum>
void grad_weight_direct(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                        const WeightBlocking& blocking, const WeightOperands<Sum>& operands);

}  // namespace convgrad::cpu
