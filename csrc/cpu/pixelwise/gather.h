// A gathering pass whose destination pixels meet one tap each, as those of a 1x1 kernel do.
#pragma once

#include "cpu/common/gather.h"
#include "cpu/pixelwise/blocking.h"

namespace convgrad::cpu {

template <typename Stored, typename Sum>
void gather_pixelwise(const Tiles<Stored, Sum>& tiles, const Gather& g,
                      const Operands<Stored, Sum>& operands, const PixelwiseBlocking& blocking);

}  // namespace convgrad::cpu
