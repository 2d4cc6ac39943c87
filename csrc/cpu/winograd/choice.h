// Whether Winograd's form can do a pass, may, and takes less work than the loops over all taps.
#pragma once

#include "conv_shape.h"
#include "cpu/common/gather.h"
#include "cpu/target.h"

namespace convgrad::cpu {

// Null if it can, or the reason. The costs are those of one image and of kFilters filters, whatever the operands
// have: neither a larger batch nor half of the filters then takes another path.
constexpr int64_t kFilters = 64;

const char* why_not_winograd(const Target& target, const Gather& g);
const char* why_not_winograd(const Target& target, const ConvShape& shape);  // grad_weight

}  // namespace convgrad::cpu
