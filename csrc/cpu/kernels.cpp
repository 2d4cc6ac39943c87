#include "cpu/kernels.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>

#include "cpu/converted.h"
#include "cpu/kernels/isa.h"
#include "cpu/pairs.h"
#include "cpu/passes.h"
#include "cpu/report.h"
#include "reference/reference.h"
#include "registry.h"

namespace convgrad::cpu {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// The tiles of one instruction set, for the dtypes that have tiles. Their tables are made by code for
// that instruction set, so that only a pass that runs asks for them.
struct TileSet {
  const Tiles<float, float>& (*floats)();
  const Tiles<double, double>& (*doubles)();
  const Tiles<at::BFloat16, float>& (*bfloats)();  // the results

  // For sums of the type that the dtype's numbers have in registers.
  template <typename Run>
  void of_sums(at::ScalarType dtype, const Run& run) const {
    if (dtype_of_tiles(dtype) == at::kFloat) return run(floats());
    run(doubles());
  }
  // With results of the dtype, where there are tiles for them.
  template <typename Run>
  void of(at::ScalarType dtype, const Run& run) const {
    if (dtype == at::kBFloat16) return run(bfloats());
    of_sums(dtype, run);
  }
};

Kernel fast_kernel(const char* name, const char* isa, bool available, TileSet tiles) {
  return {
      .name = name,
      .isa = isa,
      .device = at::kCPU,
      .dtypes = {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kComplexFloat,
                 at::kComplexDouble, at::kChar, at::kByte},
      .available = available,
      .forward =
          [tiles](const ConvShape& shape, const Tensor& input, const Tensor& weight,
                  const OptionalTensor& bias, Tensor& output) {
            tiles.of(input.scalar_type(), [&](const auto& t) {
              if (is_converted(input.scalar_type()))
                return forward_converted(t, shape, input, weight, bias, output);
              forward(t, shape, input, weight, bias, output);
            });
          },
      .grad_input =
          [tiles](const ConvShape& shape, const Tensor& weight, const Tensor& grad_output,
                  Tensor& result) {
            tiles.of(weight.scalar_type(), [&](const auto& t) {
              if (is_converted(weight.scalar_type()))
                return grad_input_converted(t, shape, weight, grad_output, result);
              grad_input(t, shape, weight, grad_output, result);
            });
          },
      .grad_weight =
          [tiles](const ConvShape& shape, const Tensor& input, const Tensor& grad_output,
                  Tensor& result) {
            tiles.of_sums(input.scalar_type(), [&](const auto& t) {
              if (is_converted(input.scalar_type()))
                return grad_weight_converted(t, shape, input, grad_output, result);
              grad_weight(t, shape, input, grad_output, result);
            });
          },
      .plan =
          [tiles](Pass pass, const ConvShape& shape, const Tensor& input, const Tensor& weight,
                  const Tensor& output) {
            const PassStrides strides{Strides::of(input), Strides::of(weight), Strides::of(output)};
            std::vector<PlanReport> reports;
            tiles.of(input.scalar_type(), [&](const auto& t) {
              reports = is_converted(input.scalar_type())
                            ? report_converted(pass, t, shape, input, weight, output)
                            : report_plan(pass, t, shape, strides);
            });
            return reports;
          },
  };
}

#if defined(__x86_64__)
// bfloat16 in pairs where a pass gains by them, and in float32 elsewhere.
Kernel pair_kernel(bool available) {
  Kernel kernel = fast_kernel("avx512_bf16", "AVX-512 with BF16", available,
                              {avx512_tiles<float, float>, avx512_tiles<double, double>,
                               avx512_tiles<at::BFloat16, float>});
  kernel.dtypes = {at::kBFloat16};
  kernel.forward = [single = kernel.forward](const ConvShape& shape, const Tensor& input,
                                             const Tensor& weight, const OptionalTensor& bias,
                                             Tensor& output) {
    if (gains_by_pairs(Pass::kForward, shape))
      forward_in_pairs(avx512_bf16_tiles<at::BFloat16>(), shape, input, weight, bias, output);
    else
      single(shape, input, weight, bias, output);
  };
  kernel.grad_input = [single = kernel.grad_input](const ConvShape& shape, const Tensor& weight,
                                                   const Tensor& grad_output, Tensor& result) {
    if (gains_by_pairs(Pass::kGradInput, shape))
      grad_input_in_pairs(avx512_bf16_tiles<at::BFloat16>(), shape, weight, grad_output, result);
    else
      single(shape, weight, grad_output, result);
  };
  kernel.grad_weight = [single = kernel.grad_weight](const ConvShape& shape, const Tensor& input,
                                                     const Tensor& grad_output, Tensor& result) {
    if (gains_by_pairs(Pass::kGradWeight, shape))
      grad_weight_in_pairs(avx512_bf16_tiles<float>(), shape, input, grad_output, result);
    else
      single(shape, input, grad_output, result);
  };
  kernel.plan = [single = kernel.plan](Pass pass, const ConvShape& shape, const Tensor& input,
                                       const Tensor& weight, const Tensor& output) {
    if (!gains_by_pairs(pass, shape)) return single(pass, shape, input, weight, output);
    return report_pairs(pass, avx512_bf16_tiles<at::BFloat16>(), shape, input, weight, output);
  };
  return kernel;
}
#endif

std::vector<Kernel> fast_kernels() {
  std::vector<Kernel> fast;
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f");
  fast.push_back(pair_kernel(avx512 && __builtin_cpu_supports("avx512bf16")));
  fast.push_back(fast_kernel("avx512", "AVX-512", avx512,
                             {avx512_tiles<float, float>, avx512_tiles<double, double>,
                              avx512_tiles<at::BFloat16, float>}));
  fast.push_back(fast_kernel(
      "avx2", "AVX2+FMA", avx2,
      {avx2_tiles<float, float>, avx2_tiles<double, double>, avx2_tiles<at::BFloat16, float>}));
#endif
  fast.push_back(fast_kernel("baseline", "any", true,
                             {baseline_tiles<float, float>, baseline_tiles<double, double>,
                              baseline_tiles<at::BFloat16, float>}));
  return fast;
}

Kernel reference_kernel() {
  return {
      .name = "reference",
      .isa = "any",
      .device = at::kCPU,
      .dtypes = {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble, at::kComplexFloat,
                 at::kComplexDouble, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong},
      .available = true,
      .forward = reference::forward,
      .grad_input = reference::grad_input,
      .grad_weight = reference::grad_weight,
      .plan = reference::plan,
  };
}

// CONVGRAD_ISA names the fastest kernel that may run: those before it count as not available.
void limit_by_environment(std::vector<Kernel>& fast) {
  const char* isa = std::getenv("CONVGRAD_ISA");
  if (!isa || !*isa) return;
  const auto chosen = std::find_if(fast.begin(), fast.end(), [&](const Kernel& kernel) {
    return kernel.available && kernel.name == isa;
  });
  TORCH_CHECK_VALUE(chosen != fast.end(), "CONVGRAD_ISA must be one of ", available_names(fast),
                    " on this processor, but got '", isa, "'");
  std::for_each(fast.begin(), chosen, [](Kernel& kernel) { kernel.available = false; });
}

}  // namespace

std::vector<Kernel> kernels() {
  plans_are_logged();  // a bad CONVGRAD_LOG is an error of the import, as a bad CONVGRAD_ISA is
  std::vector<Kernel> all = fast_kernels();
  limit_by_environment(all);
  all.push_back(reference_kernel());
  return all;
}

}  // namespace convgrad::cpu
