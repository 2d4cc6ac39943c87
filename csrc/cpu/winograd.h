// A gathering pass under a 3x3 kernel of stride 1 with fewer multiplications: docs/winograd.md.
#pragma once

#include "cpu/schedule.h"
#include "cpu/tile.h"

namespace convgrad::cpu {

// Whether `gather_winograd` can do this pass, and with less work than the loops over all taps.
template <typename T>
bool is_winograd(const Tiles<T>& tiles, const Gather<T>& g);

template <typename T>
void gather_winograd(const Tiles<T>& tiles, const Gather<T>& g);

}  // namespace convgrad::cpu
