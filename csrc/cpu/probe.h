// What this machine can do at best, measured: the yardstick that the benchmarks hold kernels against.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>

namespace convgrad::cpu {

// 10^9 operations a second of `threads` threads that do nothing but multiply and add in registers, on
// the widest vectors of this processor. A multiply-add counts twice. float32 and float64.
double fma_peak_gflops(c10::ScalarType dtype, int64_t threads);

// 10^9 bytes a second of `threads` threads that read two arrays and write a third. Together the three
// take 192 MiB; a last-level cache that holds as much is what gets measured then.
double bandwidth_gbs(int64_t threads);

}  // namespace convgrad::cpu
