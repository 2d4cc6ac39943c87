// forward and grad_input of groups of few channels, where channels are adjacent.
#pragma once

#include "cpu/common/gather.h"
#include "cpu/depthwise/channel_blocking.h"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
void gather_groups(const Tiles<Stored, Sum>& tiles, const Gather& g,
                   const Operands<Stored, Sum>& operands, const GroupBlocking& blocking);

}  // namespace convgrad::cpu
