// Whether Winograd's loops may run: only where the user allows it, because their errors are relative to
// whole transformed tiles and kernels (docs/winograd.md).
#pragma once

namespace convgrad::cpu {

// For every thread. The environment variable CONVGRAD_WINOGRAD sets it at first: "1" allows it; "0", an empty
// variable and no variable do not; any other value raises a ValueError.
bool winograd_is_allowed();

// Returns the permission before.
bool allow_winograd(bool allowed);

}  // namespace convgrad::cpu
