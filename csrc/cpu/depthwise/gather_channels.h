// forward and grad_input of depthwise convolutions whose channels are adjacent.
#pragma once

#include "cpu/common/gather.h"
#include "cpu/depthwise/channel_blocking.h"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
void gather_channels(const Tiles<Stored, Sum>& tiles, const Gather& g,
                     const Operands<Stored, Sum>& operands, const ChannelBlocking& blocking);

}  // namespace convgrad::cpu
