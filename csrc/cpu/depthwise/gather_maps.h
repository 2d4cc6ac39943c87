// forward and grad_input of depthwise convolutions whose rows of pixels are narrow.
#pragma once

#include "cpu/common/gather.h"
#include "cpu/depthwise/channel_blocking.h"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
void gather_maps(const Tiles<Stored, Sum>& tiles, const Gather& g,
                 const Operands<Stored, Sum>& operands, const MapBlocking& blocking);

}  // namespace convgrad::cpu
