// grad_weight of groups of one or few channels, where channels are adjacent.
#pragma once

#include "conv_shape.h"
#include "cpu/common/weight_sums.h"
#include "cpu/depthwise/channel_blocking.h"

namespace convgrad::cpu {

template <typename Sum>
void weight_channels(const Tiles<Sum, Sum>& tiles, const ConvShape& shape,
                     const ChannelWeightBlocking& blocking, const WeightOperands<Sum>& operands);

}  // namespace convgrad::cpu
