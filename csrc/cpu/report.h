// The CPU's plans in words and numbers.
#pragma once

#include "cpu/common/gather.h"
#include "cpu/kernels/tiles.h"
#include "plan_report.h"

namespace convgrad::cpu {

// Equal phases of grad_input share a report.
std::vector<PlanReport> report_plan(Pass pass, const TileShape& tiles, const ConvShape& shape,
                                    const PassStrides& strides);

// Whether the environment variable CONVGRAD_LOG is "plan". Raises a ValueError for any other value.
bool plans_are_logged();

// Prints the report to stderr if so.
void log_plan(Pass pass, const TileShape& tiles, const ConvShape& shape,
              const PassStrides& strides);

}  // namespace convgrad::cpu
