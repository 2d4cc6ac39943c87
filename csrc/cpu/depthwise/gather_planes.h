// forward and grad_input of groups of few channels; docs/architecture.md has these loops in short.
#pragma once

#include "cpu/common/gather.h"
#include "cpu/depthwise/blocking.h"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
void gather_planes(const Tiles<Stored, Sum>& tiles, const Gather& g,
                   const Operands<Stored, Sum>& operands, const PlaneBlocking& blocking);

}  // namespace convgrad::cpu
