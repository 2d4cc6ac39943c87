// How work is shared out among threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/common/blocks.h"

namespace convgrad::cpu {

// The grain of at::parallel_for with items of `work` multiply-adds each: a thread takes as long to wake as a
// few hundred thousand of them take.
constexpr int64_t grain_of(int64_t work) {
  constexpr int64_t kWorkWorthAThread = 1 << 19;
  return 1 + kWorkWorthAThread / std::max<int64_t>(1, work);
}

// Where digits may depend on the items, they are made for eight threads. A gathering pass makes two for each thread: a
// thread that starts late then delays the pass by half as much. grad_weight makes one for each, because an item has sums
// of its own.
constexpr int64_t kThreads = 8;
constexpr int64_t kGatherItems = 2 * kThreads;
constexpr int64_t kReductionItems = kThreads;

// Elsewhere, the fewest items that a pass is cut into: two for each thread at hand. A single thread gets one, because
// every item copies or reads some pixels again.
constexpr int64_t wanted_items(int64_t threads) {
  return threads == 1 ? 1 : 2 * std::min(threads, kThreads);
}

// At least as many parts, each of `items` items, so that threads idle for a tenth of their time at most; the same parts, if
// a few more do not help.
inline Blocks shared_evenly(const Blocks& parts, int64_t extent, int64_t items, int64_t threads) {
  for (int64_t count = parts.count; 0 < count && count <= parts.count + threads; ++count) {
    const Blocks some = Blocks::covering(extent, ceil_div(extent, count));
    const int64_t all = product(items, some.count), last = all % threads;
    if (last == 0 || product(10, threads - last) <= all) return some;
  }
  return parts;
}

}  // namespace convgrad::cpu
