// grad_weight over all taps.
#pragma once

#include "cpu/common/views.h"
#include "cpu/direct/weight_blocking.h"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
void grad_weight_direct(const Tiles<Stored, Sum>& tiles, const ConvShape& shape,
                        const WeightBlocking& blocking, const WeightOperands<Stored>& operands);

}  // namespace convgrad::cpu
