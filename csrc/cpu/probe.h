// The measured limits of this machine, with which the benchmarks compare kernels.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>

namespace convgrad::cpu {

// 10^9 operations a second of `threads` threads that only multiply and add in registers, on the widest
// vectors of this processor. A multiply-add counts twice. float32 and float64.
double fma_peak_gflops(c10::ScalarType dtype, int64_t threads);

// 10^9 bytes a second of `threads` threads that read two arrays and write a third. Together the three
// take 192 MiB; a last-level cache of that size is measured instead of the memory.
double bandwidth_gbs(int64_t threads);

}  // namespace convgrad::cpu
