#include "autograd_node.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/dynamo/compiled_autograd.h>

#include <mutex>
#include <utility>

#include "operators.h"

namespace convgrad {
namespace {

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;
using torch::dynamo::autograd::CompiledNodeArgs;
using torch::dynamo::autograd::SwapSavedVariables;

using Extents = std::array<int64_t, 4>;

Extents extents_of(at::IntArrayRef numbers) {
  return {numbers[0], numbers[1], numbers[2], numbers[3]};
}

SymIntArrayRef symbols(at::IntArrayRef numbers) { return c10::fromIntArrayRefSlow(numbers); }

std::pair<Operand, Operand> factors_of(Operand result) {
  switch (result) {
    case kInput:
      return {kWeight, kOutput};
    case kWeight:
      return {kInput, kOutput};
    default:
      return {kInput, kWeight};
  }
}

Operand third(Operand a, Operand b) { return Operand(kInput + kWeight + kOutput - a - b); }

class PassBackward final : public torch::autograd::Node {
 public:
  PassBackward(const RecordedPass& pass, const std::optional<Tensor>& bias)
      : Node(torch::autograd::collect_next_edges(pass.first, pass.second, bias)),
        result_(pass.result),
        params_(pass.params) {
    const auto [first, second] = factors_of(result_);
    keep(first, pass.first, /*is_needed=*/should_compute_output(1));
    keep(second, pass.second, /*is_needed=*/should_compute_output(0));
  }

  std::string name() const override {
    static const std::array names{"Conv2dInputBackward", "Conv2dWeightBackward", "Conv2dBackward"};
    return names[result_];
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    for (SavedVariable& saved : saved_) saved.reset_data();
  }

  void compiled_args(CompiledNodeArgs& args) const override {
    for (const SavedVariable& saved : saved_) args.collect(saved, /*is_output=*/false);
    args.collect(static_cast<int64_t>(result_));
    args.collect(at::IntArrayRef(params_.stride));
    args.collect(at::IntArrayRef(params_.padding));
    args.collect(at::IntArrayRef(params_.dilation));
    args.collect(params_.groups);
    for (const Extents& numbers : sizes_) args.collect(at::IntArrayRef(numbers));
    for (const Extents& numbers : strides_) args.collect(at::IntArrayRef(numbers));
  }

  variable_list apply_with_saved(const variable_list& grads, SwapSavedVariables& swapped) override {
    for (SavedVariable& saved : saved_) swapped.before(saved);
    variable_list gradients = apply(variable_list(grads));
    for (SavedVariable& saved : saved_) swapped.after(saved);
    return gradients;
  }

 protected:
  variable_list apply(variable_list&& grads) override {
    const std::lock_guard lock(mutex_);
    variable_list gradients(num_outputs());
    const Tensor& grad = grads[0];
    if (!grad.defined()) return gradients;
    const auto [first, second] = factors_of(result_);
    if (task_should_compute_output(0)) gradients[0] = gradient_of(first, grad);
    if (task_should_compute_output(1)) gradients[1] = gradient_of(second, grad);
    if (num_outputs() > 2 && task_should_compute_output(2)) gradients[2] = sum_over_outputs(grad);
    return gradients;
  }

 private:
  // The gradient of one factor needs the other factor alone.
  void keep(Operand factor, const Tensor& tensor, bool is_needed) {
    sizes_[factor] = extents_of(tensor.sizes());
    strides_[factor] = extents_of(tensor.strides());
    if (is_needed) saved_[factor] = SavedVariable(tensor, /*is_output=*/false);
  }

  Tensor gradient_of(Operand factor, const Tensor& grad) const {
    std::array<Tensor, 3> operands;
    operands[result_] = grad;
    const Operand other = third(result_, factor);
    operands[other] = saved_[other].unpack();
    return made(factor, operands);
  }

  // The pass that makes `operand` from the other two.
  Tensor made(Operand operand, const std::array<Tensor, 3>& from) const {
    const auto stride = symbols(params_.stride), padding = symbols(params_.padding),
               dilation = symbols(params_.dilation);
    const auto size = symbols(sizes_[operand]), strides = symbols(strides_[operand]);
    switch (operand) {
      case kInput:
        return conv2d_input_operator().call(size, from[kWeight], from[kOutput], stride, padding,
                                            dilation, params_.groups, strides);
      case kWeight:
        return conv2d_weight_operator().call(from[kInput], size, from[kOutput], stride, padding,
                                             dilation, params_.groups, strides);
      default:
        return conv2d_operator().call(from[kInput], from[kWeight], std::nullopt, stride, padding,
                                      dilation, params_.groups);
    }
  }

  // grad_bias: each channel meets every output. An input without channels made an output without channels.
  Tensor sum_over_outputs(const Tensor& grad_output) const {
    const int64_t C_out = sizes_[kWeight][0];
    if (grad_output.sym_size(1) != C_out) return at::zeros({C_out}, grad_output.options());
    return grad_output.sum(at::IntArrayRef{0, 2, 3});
  }

  const Operand result_;
  const Hyperparameters params_;
  // By operand; those of the result are not set.
  std::array<Extents, 3> sizes_{}, strides_{};
  std::array<SavedVariable, 3> saved_;
};

}  // namespace

void record(const Tensor& result, const RecordedPass& pass, const std::optional<Tensor>& bias) {
  torch::autograd::set_history(result, c10::make_intrusive<PassBackward>(pass, bias));
}

}  // namespace convgrad
