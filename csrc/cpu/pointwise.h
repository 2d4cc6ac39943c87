// A gathering pass whose destination pixels meet one tap each, as those of a 1x1 kernel do.
#pragma once

#include "cpu/schedule.h"
#include "cpu/tile.h"

namespace convgrad::cpu {

// Whether `gather_pointwise` is for this pass: the lanes can lie along its pixels.
template <typename T>
bool is_pointwise(const Tiles<T>& tiles, const Gather<T>& g);

template <typename T>
void gather_pointwise(const Tiles<T>& tiles, const Gather<T>& g);

}  // namespace convgrad::cpu
