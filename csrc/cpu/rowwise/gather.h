// A gathering pass whose lanes are pixels of a row: docs/architecture.md.
#pragma once

#include "cpu/common/gather.h"
#include "cpu/kernels/tiles.h"
#include "cpu/rowwise/blocking.h"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
void gather_rowwise(const Tiles<Stored, Sum>& tiles, const Gather& g,
                    const Operands<Stored, Sum>& operands, const RowwiseBlocking& blocking);

}  // namespace convgrad::cpu
