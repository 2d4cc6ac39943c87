// grad_weight of groups of few channels, with pixels as lanes.
#pragma once

#include "conv_shape.h"
#include "cpu/common/weight_sums.h"
#include "cpu/depthwise/blocking.h"

namespace convgrad::cpu {

template <typename Sum>
void weight_planes(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                   const PlaneWeightBlocking& blocking, const WeightOperands<Sum>& operands);

}  // namespace convgrad::cpu
