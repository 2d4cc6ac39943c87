// grad_input under a stride: its phases read the same sources.
#pragma once

#include "conv_shape.h"
#include "cpu/common/gather.h"
#include "cpu/target.h"

namespace convgrad::cpu {

// Whether there are several phases, and each of them is depthwise in the same way, or zero.
bool phases_are_depthwise(const Target& target, const Gather& grad_input, const ConvShape& shape);

// All phases that meet a tap.
template <typename Stored, typename Sum>
void gather_phases(const Tiles<Stored, Sum>& tiles, const Target& target, const Gather& grad_input,
                   const ConvShape& shape, const Operands<Stored, Sum>& operands);

}  // namespace convgrad::cpu
