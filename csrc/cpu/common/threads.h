// How work is shared out among threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace convgrad::cpu {

// The grain of at::parallel_for with items of `work` multiply-adds each: a thread takes as long to wake as a
// few hundred thousand of them take.
constexpr int64_t grain_of(int64_t work) {
  constexpr int64_t kWorkWorthAThread = 1 << 19;
  return 1 + kWorkWorthAThread / std::max<int64_t>(1, work);
}

// Where digits may depend on the items, they are made for eight threads. A gathering pass makes two for each thread, so
// that a thread that starts late delays the pass by half as much. An item of grad_weight has sums of its own, so that
// there is one for each thread.
constexpr int64_t kThreads = 8;
constexpr int64_t kGatherItems = 2 * kThreads;
constexpr int64_t kReductionItems = kThreads;

// The fewest items elsewhere: two for each of the threads at hand, and one for a single thread, because each item copies
// or reads some pixels again.
constexpr int64_t wanted_items(int64_t threads) {
  return threads == 1 ? 1 : 2 * std::min(threads, kThreads);
}

}  // namespace convgrad::cpu
