// How work is shared out among threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace convgrad::cpu {

// The grain of at::parallel_for for items of `work` multiply-adds each: to wake a thread takes as long as a
// few hundred thousand of them.
constexpr int64_t grain_of(int64_t work) {
  constexpr int64_t kWorkWorthAThread = 1 << 19;
  return 1 + kWorkWorthAThread / std::max<int64_t>(1, work);
}

// Items are made for eight threads, however many there are, because digits may depend on the items. A gathering
// pass makes two for each thread, so that one that starts late costs half an item. An item of grad_weight has
// sums of its own to keep, so that there is one for each thread.
constexpr int64_t kThreads = 8;
constexpr int64_t kGatherItems = 2 * kThreads;
constexpr int64_t kReductionItems = kThreads;

}  // namespace convgrad::cpu
