#include "cpu/probe.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "cpu/kernels.h"

namespace convgrad::cpu {
namespace {

using Clock = std::chrono::steady_clock;

// The best of a few rounds counts: other work of the machine can only slow a round down.
constexpr int rounds = 8;
constexpr double seconds_a_round = 0.01;
constexpr int64_t block = 4096;  // steps of a chain between two looks at the clock

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The number of chains of multiply-adds, each waiting for its last result, that hides the latency of one:
// 8 suffice on x86-64, whose 16 registers hold 12 beside the two constants; 16 on the widest AArch64 cores.
#if defined(__aarch64__)
constexpr int chains = 16;
#else
constexpr int chains = 12;
#endif

// T name(steps, factor, term) on vectors of `bytes` bytes. Each instruction set needs a function of its
// own that is compiled for it from the first line. A common function would be inlined too late: the
// compiler would have cut vectors that are too wide for the default target into pieces. The chains begin
// with different numbers, because the compiler would compute only one of equal chains.
#define CONVGRAD_CHAINS(name, bytes, ...)                                        \
  template <typename T>                                                          \
  __VA_ARGS__ T name(int64_t steps, T factor, T term) {                          \
    typedef T Vector __attribute__((vector_size(bytes)));                        \
    Vector acc[chains];                                                          \
    for (int i = 0; i < chains; ++i) acc[i] = Vector{} + T(i);                   \
    for (int64_t step = 0; step < steps; ++step)                                 \
      for (int i = 0; i < chains; ++i) acc[i] = acc[i] * factor + term;          \
    for (int i = 1; i < chains; ++i) acc[0] += acc[i];                           \
    T sum = 0;                                                                   \
    for (size_t lane = 0; lane < bytes / sizeof(T); ++lane) sum += acc[0][lane]; \
    return sum;                                                                  \
  }

CONVGRAD_CHAINS(chains_of_16_bytes, 16, )
#if defined(__x86_64__)
CONVGRAD_CHAINS(chains_avx2, 32, __attribute__((target("avx2,fma"))))
CONVGRAD_CHAINS(chains_avx512, 64, __attribute__((target("avx512f"))))
#endif
#undef CONVGRAD_CHAINS

template <typename T>
struct Chains {
  T (*run)(int64_t steps, T factor, T term);
  int64_t bytes;
};

// Of the fastest kernel's instruction set, which CONVGRAD_ISA can limit.
template <typename T>
Chains<T> widest_chains() {
#if defined(__x86_64__)
  const std::vector<Kernel> all = kernels();
  const auto fastest =
      std::find_if(all.begin(), all.end(), [](const Kernel& k) { return k.available; });
  if (fastest->name == "avx512") return {chains_avx512<T>, 64};
  if (fastest->name == "avx2") return {chains_avx2<T>, 32};
#endif
  return {chains_of_16_bytes<T>, 16};
}

// The best round's sum of `rate(thread)` over all threads, which run at once. The threads last through all
// rounds: the system may start two of them on one processor and takes a while to separate them.
template <typename Rate>
double best_of_rounds(int64_t threads, const Rate& rate) {
  std::atomic<int64_t> arrived(0);
  std::vector<double> rates(threads * rounds);
  std::vector<std::thread> running;
  running.reserve(threads);
  for (int64_t thread = 0; thread < threads; ++thread)
    running.emplace_back([&, thread] {
      for (int round = 0; round < rounds; ++round) {
        ++arrived;
        while (arrived < (round + 1) * threads) std::this_thread::yield();
        rates[round * threads + thread] = rate(thread);
      }
    });
  for (std::thread& thread : running) thread.join();
  double best = 0;
  for (auto round = rates.begin(); round != rates.end(); round += threads)
    best = std::max(best, std::accumulate(round, round + threads, 0.0));
  return best / 1e9;
}

template <typename T>
double fma_rate(const Chains<T>& widest) {
  volatile T factor = T(0.999), term = T(0.001), sink;  // volatile: no constant for the compiler
  const auto start = Clock::now();
  int64_t steps = 0;
  while (seconds_since(start) < seconds_a_round) {
    sink = widest.run(block, factor, term);
    steps += block;
  }
  (void)sink;
  const int64_t lanes = widest.bytes / static_cast<int64_t>(sizeof(T));
  const double operations = 2.0 * chains * static_cast<double>(lanes);
  return operations * static_cast<double>(steps) / seconds_since(start);
}

template <typename T>
double fma_peak_gflops(int64_t threads) {
  const Chains<T> widest = widest_chains<T>();
  return best_of_rounds(threads, [&](int64_t) { return fma_rate(widest); });
}

// One thread's part of the three arrays; the thread that uses them touches them first.
struct Triad {
  std::unique_ptr<float[]> a, b, c;
  int64_t size = 0;

  void allocate(int64_t elements) {
    size = elements;
    for (auto* array : {&a, &b, &c}) *array = std::make_unique<float[]>(elements);
  }

  double rate() const {
    const auto start = Clock::now();
    float* __restrict out = a.get();
    const float* __restrict first = b.get();
    const float* __restrict second = c.get();
    for (int64_t i = 0; i < size; ++i) out[i] = first[i] + 0.5f * second[i];
    return 3.0 * sizeof(float) * static_cast<double>(size) / seconds_since(start);
  }
};

}  // namespace

double fma_peak_gflops(c10::ScalarType dtype, int64_t threads) {
  TORCH_CHECK_VALUE(threads >= 1, "fma_peak_gflops: threads must be >= 1, but got ", threads);
  TORCH_CHECK_VALUE(dtype == c10::kFloat || dtype == c10::kDouble,
                    "fma_peak_gflops: dtype must be float32 or float64, but got ", dtype);
  return dtype == c10::kFloat ? fma_peak_gflops<float>(threads) : fma_peak_gflops<double>(threads);
}

double bandwidth_gbs(int64_t threads) {
  TORCH_CHECK_VALUE(threads >= 1, "bandwidth_gbs: threads must be >= 1, but got ", threads);
  constexpr int64_t elements = int64_t{64} * 1024 * 1024 / sizeof(float);
  std::vector<Triad> parts(threads);
  return best_of_rounds(threads, [&](int64_t thread) {
    if (parts[thread].size == 0) parts[thread].allocate(elements / threads);
    return parts[thread].rate();
  });
}

}  // namespace convgrad::cpu
