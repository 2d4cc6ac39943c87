// A gathering pass under a 3x3 kernel of stride 1 with fewer multiplications: docs/winograd.md.
#pragma once

#include "cpu/common/gather.h"
#include "cpu/winograd/blocking.h"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
void gather_winograd(const Tiles<Stored, Sum>& tiles, const Gather& g,
                     const Operands<Stored, Sum>& operands, const WinogradBlocking& blocking);

}  // namespace convgrad::cpu
