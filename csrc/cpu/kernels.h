// The CPU's kernels, as the registry enters them.
#pragma once

#include <vector>

#include "kernel.h"

namespace convgrad::cpu {

// One per instruction set, fastest first, then 'reference'. CONVGRAD_ISA limits the fast ones.
std::vector<Kernel> kernels();

}  // namespace convgrad::cpu
