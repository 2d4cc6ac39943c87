#include "cpu/pairs.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "cpu/common/gather.h"
#include "cpu/common/threads.h"
#include "cpu/depthwise/blocking.h"
#include "cpu/passes.h"
#include "cpu/report.h"
#include "cpu/slices.h"

namespace convgrad::cpu {
namespace {

using at::Tensor;

constexpr int64_t pairs_of(int64_t numbers) { return ceil_div(numbers, 2); }

// Which numbers of a tensor are pairs: neighbours along an axis, in each of some groups.
struct Pairing {
  int64_t axis, groups;
};
constexpr Pairing kImages{0, 1};  // and the filters of a weight of one group
constexpr Pairing channels_of(const ConvShape& shape) { return {1, shape.groups}; }

// A tensor of float32 whose elements are pairs, without them.
Tensor empty_pairs(const Tensor& t, Pairing pairing) {
  std::vector<int64_t> sizes = t.sizes().vec();
  int64_t& numbers = sizes[pairing.axis];
  numbers = pairing.groups * pairs_of(numbers / pairing.groups);
  return at::empty(sizes, t.options().dtype(at::kFloat), t.suggest_memory_format());
}

// A tensor in the order of its memory: [outer][group][number][inner].
struct Extents {
  int64_t outer, groups, numbers, inner;

  static Extents of(const Tensor& t, Pairing pairing) {
    const int64_t numbers = t.size(pairing.axis);
    const bool images = pairing.axis == 0, adjacent = !t.is_contiguous();  // in channels_last
    const int64_t outer = images ? 1 : adjacent ? t.numel() / numbers : t.size(0);
    return {outer, pairing.groups, numbers / pairing.groups, t.numel() / numbers / outer};
  }
};

// to[i] = {low[i], high[i]}. Without `high` it is zero.
void pair_up(const uint16_t* low, const uint16_t* high, int64_t count, uint32_t* to) {
  if (!high) {
    std::copy_n(low, count, to);
    return;
  }
  for (int64_t i = 0; i < count; ++i) to[i] = low[i] | static_cast<uint32_t>(high[i]) << 16;
}

// Adjacent numbers are pairs as they are, up to a last one.
void pair_up_neighbours(const uint16_t* from, int64_t count, uint32_t* to) {
  std::memcpy(to, from, count / 2 * sizeof(uint32_t));
  if (count % 2 == 1) to[count / 2] = from[count - 1];
}

// Copies a tensor without gaps.
void copy_pairs(const uint16_t* from, const Extents& e, uint32_t* to) {
  const int64_t pairs = pairs_of(e.numbers), groups = e.outer * e.groups;
  if (e.inner == 1) {
    at::parallel_for(0, groups, grain_of(e.numbers), [&](int64_t begin, int64_t end) {
      for (int64_t group : Range{begin, end})
        pair_up_neighbours(from + group * e.numbers, e.numbers, to + group * pairs);
    });
    return;
  }
  at::parallel_for(0, groups * pairs, grain_of(e.inner), [&](int64_t begin, int64_t end) {
    for (int64_t i : Range{begin, end}) {
      const int64_t number = 2 * (i % pairs);
      const uint16_t* const low = from + (i / pairs * e.numbers + number) * e.inner;
      pair_up(low, number + 1 < e.numbers ? low + e.inner : nullptr, e.inner, to + i * e.inner);
    }
  });
}

// Whether a tensor's memory is that of its pairs.
bool is_paired(const Tensor& t, const Extents& e) {
  const auto address = reinterpret_cast<uintptr_t>(t.const_data_ptr());
  return e.inner == 1 && e.numbers % 2 == 0 && address % sizeof(float) == 0;
}

Tensor in_pairs(const Tensor& tensor, Pairing pairing) {
  const Tensor t = tensor.contiguous(tensor.suggest_memory_format());
  const Extents extents = Extents::of(t, pairing);
  if (is_paired(t, extents)) {
    const Tensor pairs = empty_pairs(t.to(at::kMeta), pairing);
    return at::from_blob(
        t.data_ptr(), pairs.sizes(), pairs.strides(), [t](void*) {}, t.options().dtype(at::kFloat));
  }
  Tensor pairs = empty_pairs(t, pairing);
  copy_pairs(reinterpret_cast<const uint16_t*>(t.const_data_ptr<at::BFloat16>()), extents,
             reinterpret_cast<uint32_t*>(pairs.mutable_data_ptr<float>()));
  return pairs;
}

Tensor empty_sums(const Tensor& result) { return at::empty_like(result, at::kFloat); }

// The shape of a pass whose reduction is in pairs.
ConvShape paired(ConvShape shape, Pass pass) {
  if (pass == Pass::kForward)
    shape.C_in = shape.groups * pairs_of(shape.C_in_per_group());
  else if (pass == Pass::kGradInput)
    shape.C_out = shape.groups * pairs_of(shape.C_out_per_group());
  else
    shape.N = pairs_of(shape.N);
  return shape;
}

// The images of some pairs.
Tensor images_of_pairs(const Tensor& t, Range pairs) {
  return images_of(t, {2 * pairs.lo, std::min(2 * pairs.hi, t.size(0))});
}

}  // namespace

bool gains_by_pairs(Pass pass, const ConvShape& shape) {
  const int64_t in = shape.C_in_per_group(), out = shape.C_out_per_group();
  if (shape.groups > 1 && std::min(in, out) <= kChannelsOfPlanes) return false;
  if (pass == Pass::kForward) return in > 1;
  return pass == Pass::kGradInput ? out > 1 : shape.N > 1 && in > 1;
}

void forward_in_pairs(const Tiles<at::BFloat16, float>& tiles, const ConvShape& shape,
                      const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                      Tensor& output) {
  const Tensor filters = in_pairs(weight, {1, 1});
  const std::optional<Tensor> sums = bias ? std::optional(bias->to(at::kFloat)) : std::nullopt;
  const auto run = [&](const ConvShape& slice, Range images) {
    Tensor result = images_of(output, images);
    forward(tiles, slice, in_pairs(images_of(input, images), channels_of(shape)), filters, sums,
            result);
  };
  for_each_slice(paired(shape, Pass::kForward), sizeof(float), run);
}

void grad_input_in_pairs(const Tiles<at::BFloat16, float>& tiles, const ConvShape& shape,
                         const Tensor& weight, const Tensor& grad_output, Tensor& gradient) {
  const Tensor filters = in_pairs(weight, {0, shape.groups});
  const auto run = [&](const ConvShape& slice, Range images) {
    Tensor result = images_of(gradient, images);
    grad_input(tiles, slice, filters, in_pairs(images_of(grad_output, images), channels_of(shape)),
               result);
  };
  for_each_slice(paired(shape, Pass::kGradInput), sizeof(float), run);
}

void grad_weight_in_pairs(const Tiles<float, float>& tiles, const ConvShape& shape,
                          const Tensor& input, const Tensor& grad_output, Tensor& gradient) {
  Tensor sum = empty_sums(gradient), part;
  const auto run = [&](const ConvShape& slice, Range pairs) {
    if (pairs.lo > 0 && !part.defined()) part = at::empty_like(sum);
    grad_weight(tiles, slice, in_pairs(images_of_pairs(input, pairs), kImages),
                in_pairs(images_of_pairs(grad_output, pairs), kImages), pairs.lo > 0 ? part : sum);
    if (pairs.lo > 0) sum.add_(part);
  };
  for_each_slice(paired(shape, Pass::kGradWeight), sizeof(float), run);
  gradient.copy_(sum);
}

std::vector<PlanReport> report_pairs(Pass pass, const TileShape& tiles, const ConvShape& whole,
                                     const Tensor& input, const Tensor& weight,
                                     const Tensor& output) {
  ConvShape slice = paired(whole, pass);
  const Blocks slices = slices_of(slice, sizeof(float));
  slice.N = slices.size;
  const bool of_images = pass == Pass::kGradWeight;
  const Range images{0, std::min(whole.N, of_images ? 2 * slice.N : slice.N)};
  const auto strides = [&](const Tensor& t, bool reduced, Pairing pairing) {
    return Strides::of(reduced ? empty_pairs(t, pairing) : empty_sums(t));
  };
  const Pairing source = of_images ? kImages : channels_of(whole);
  const PassStrides of_tensors{
      strides(images_of(input, images), pass != Pass::kGradInput, source),
      strides(weight, !of_images,
              pass == Pass::kForward ? Pairing{1, 1} : Pairing{0, whole.groups}),
      strides(images_of(output, images), pass != Pass::kForward, source)};
  std::vector<PlanReport> reports = report_plan(pass, tiles, slice, of_tensors);
  for (PlanReport& report : reports) {
    report.blocking.emplace_back("images converted at a time", std::to_string(images.size()));
    report.blocking.emplace_back("numbers", "pairs of bfloat16");
  }
  return reports;
}

}  // namespace convgrad::cpu
