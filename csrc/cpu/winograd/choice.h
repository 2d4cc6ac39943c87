// Whether Winograd's form fits a pass, is allowed, and takes less work than the loops over all taps.
#pragma once

#include "conv_shape.h"
#include "cpu/common/gather.h"
#include "cpu/target.h"

namespace convgrad::cpu {

// Null if all of this holds, or the reason. The costs are those of one image and of kFilters filters, for any
// operands: so a larger batch or half of the filters never takes another path.
constexpr int64_t kFilters = 64;

const char* why_not_winograd(const Target& target, const Gather& g);
const char* why_not_winograd(const Target& target, const ConvShape& shape);  // grad_weight

}  // namespace convgrad::cpu
