// What the bindings of single kernels have in common. Memory is a tensor of one axis and an offset in elements.
#pragma once

#include "bindings.h"
#include "cpu/kernels/isa.h"

namespace convgrad::of_tiles {

using at::Tensor;
using Memory = std::pair<Tensor, int64_t>;

inline bool runs(const std::string& isa) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f");
  if (isa == "avx512_bf16") return avx512 && __builtin_cpu_supports("avx512bf16");
  if (isa == "avx512") return avx512;
  if (isa == "avx2") return avx2;
#endif
  return isa == "baseline";
}

// "avx512_bf16" has tiles of pairs of numbers, which are floats here.
template <typename Stored, typename Sum = Stored>
const cpu::Tiles<Stored, Sum>& tiles_of(const std::string& isa) {
  TORCH_CHECK_VALUE(runs(isa), "tiles: isa must be an instruction set of this processor, but got '",
                    isa, "'");
#if defined(__x86_64__)
  if constexpr (std::is_same_v<Sum, float>)
    if (isa == "avx512_bf16") return cpu::avx512_bf16_tiles<Stored>();
  if (isa == "avx512") return cpu::avx512_tiles<Stored, Sum>();
  if (isa == "avx2") return cpu::avx2_tiles<Stored, Sum>();
#endif
  return cpu::baseline_tiles<Stored, Sum>();
}

template <typename T>
T* at(const Memory& memory) {
  return memory.first.data_ptr<T>() + memory.second;
}

// call(T(), tiles) for the dtype of the memory.
template <typename Call>
void dispatch(const std::string& isa, const Tensor& memory, const Call& call) {
  if (memory.scalar_type() == at::kFloat) return call(float(), tiles_of<float>(isa));
  call(double(), tiles_of<double>(isa));
}

// call(Stored(), Sum(), tiles) for the dtype of results.
template <typename Call>
void dispatch_results(const std::string& isa, const Tensor& results, const Call& call) {
  if (results.scalar_type() == at::kBFloat16)
    return call(at::BFloat16(), float(), tiles_of<at::BFloat16, float>(isa));
  dispatch(isa, results, [&](auto zero, const auto& tiles) { call(zero, zero, tiles); });
}

// The pairs of steps["runs"].
inline std::vector<cpu::Run> runs_of(const pybind11::dict& steps) {
  std::vector<cpu::Run> runs;
  for (const auto& [a, b] : steps["runs"].cast<std::vector<std::pair<int64_t, int64_t>>>())
    runs.push_back({a, b});
  return runs;
}

// A number that few calls need; zero for the others.
inline int64_t if_given(const pybind11::dict& steps, const char* name) {
  return steps.contains(name) ? steps[name].cast<int64_t>() : 0;
}

}  // namespace convgrad::of_tiles
