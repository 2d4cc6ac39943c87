// Whether Winograd's loops may run: only where the user allows it, because their errors are relative to
// whole transformed tiles and kernels (docs/winograd.md).
#pragma once

namespace convgrad::cpu {

// For every thread. At first what the environment variable CONVGRAD_WINOGRAD says: "1" allows it, "0",
// nothing and no variable do not; anything else raises a ValueError.
bool winograd_is_allowed();

// Returns what held before.
bool allow_winograd(bool allowed);

}  // namespace convgrad::cpu
