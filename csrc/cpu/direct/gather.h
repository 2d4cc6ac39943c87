// The gathering passes over all taps: docs/tile.md.
#pragma once

#include "cpu/common/gather.h"
#include "cpu/common/panels.h"
#include "cpu/direct/blocking.h"
#include "cpu/kernels/tiles.h"

namespace convgrad::cpu {

// `panels` is the weight of the whole pass in `order`; a phase reads the taps that it meets.
template <typename Stored, typename Sum>
void gather_direct(const Tiles<Stored, Sum>& tiles, const Gather& g,
                   const Operands<Stored, Sum>& operands, const DirectBlocking& blocking,
                   const Sum* panels, const PanelOrder& order);

}  // namespace convgrad::cpu
