#include "autograd_node.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/dynamo/compiled_autograd.h>

#include <memory>
#include <mutex>
#include <type_traits>
#include <vector>

#include "operators.h"

namespace convgrad {
namespace {

using torch::autograd::InputMetadata;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;
using torch::dynamo::autograd::CompiledNodeArgs;
using torch::dynamo::autograd::SwapSavedVariables;

constexpr size_t kBiasEdge = 2;

using Extents = std::array<int64_t, 4>;

Extents extents_of(at::IntArrayRef numbers) {
  return {numbers[0], numbers[1], numbers[2], numbers[3]};
}

SymIntArrayRef symbols(at::IntArrayRef numbers) { return c10::fromIntArrayRefSlow(numbers); }

std::array<Operand, 2> factors_of(Operand result) {
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

// The derivative of one pass: what does not depend on the numbers in the tensors.
struct Derivative {
  Operand result;
  Hyperparameters params;
  std::array<Extents, 3> sizes, strides;  // by operand; those of the result are not read

  Tensor in_factor(Operand factor, const Tensor& grad, const Tensor& other) const {
    std::array<Tensor, 3> operands;
    operands[result] = grad;
    operands[third(result, factor)] = other;
    return made(factor, operands);
  }

  // Each channel meets every output. An input without channels made an output without channels.
  Tensor in_bias(const Tensor& grad_output) const {
    const int64_t C_out = sizes[kWeight][0];
    if (grad_output.sym_size(1) != C_out) return grad_output.new_zeros({C_out});
    return grad_output.sum(at::IntArrayRef{0, 2, 3});
  }

 private:
  // The pass that makes `operand` from the other two.
  Tensor made(Operand operand, const std::array<Tensor, 3>& from) const {
    const auto stride = symbols(params.stride), padding = symbols(params.padding),
               dilation = symbols(params.dilation);
    const auto size = symbols(sizes[operand]), grad_strides = symbols(strides[operand]);
    switch (operand) {
      case kInput:
        return conv2d_input_operator().call(size, from[kWeight], from[kOutput], stride, padding,
                                            dilation, params.groups, grad_strides);
      case kWeight:
        return conv2d_weight_operator().call(from[kInput], size, from[kOutput], stride, padding,
                                             dilation, params.groups, grad_strides);
      default:
        return conv2d_operator().call(from[kInput], from[kWeight], std::nullopt, stride, padding,
                                      dilation, params.groups);
    }
  }
};

// The gradients of a node's edges: of the two factors, and of the bias where there is a third edge.
// `other_of(factor)` is the factor that the gradient of `factor` needs.
template <typename OtherOf>
variable_list gradients_of(const Derivative& derivative, const Tensor& grad,
                           const std::vector<bool>& wanted, const OtherOf& other_of) {
  variable_list gradients(wanted.size());
  if (!grad.defined()) return gradients;
  const auto factors = factors_of(derivative.result);
  for (size_t edge = 0; edge < factors.size(); ++edge)
    if (wanted[edge])
      gradients[edge] = derivative.in_factor(factors[edge], grad, other_of(factors[edge]));
  if (wanted.size() > kBiasEdge && wanted[kBiasEdge])
    gradients[kBiasEdge] = derivative.in_bias(grad);
  return gradients;
}

class PassBackward final : public torch::autograd::Node {
 public:
  PassBackward(const RecordedPass& pass, const std::optional<Tensor>& bias)
      : Node(torch::autograd::collect_next_edges(pass.first, pass.second, bias)),
        derivative_{pass.result, pass.params, {}, {}} {
    const auto [first, second] = factors_of(pass.result);
    keep(first, pass.first, /*is_needed=*/should_compute_output(1));
    keep(second, pass.second, /*is_needed=*/should_compute_output(0));
  }

  std::string name() const override {
    static const std::array names{"Conv2dInputBackward", "Conv2dWeightBackward", "Conv2dBackward"};
    return names[derivative_.result];
  }

  void release_variables() override {
    const std::lock_guard lock(mutex_);
    for (SavedVariable& saved : saved_) saved.reset_data();
  }

  void compiled_args(CompiledNodeArgs& args) const override;
  variable_list apply_with_saved(const variable_list& grads, SwapSavedVariables& swapped) override;

 protected:
  variable_list apply(variable_list&& grads) override {
    const std::lock_guard lock(mutex_);
    return gradients_of(derivative_, grads[0], wanted(), [&](Operand factor) {
      return saved_[third(derivative_.result, factor)].unpack();
    });
  }

 private:
  // The gradient of one factor needs the other factor alone.
  void keep(Operand factor, const Tensor& tensor, bool is_needed) {
    derivative_.sizes[factor] = extents_of(tensor.sizes());
    derivative_.strides[factor] = extents_of(tensor.strides());
    if (is_needed) saved_[factor] = SavedVariable(tensor, /*is_output=*/false);
  }

  std::vector<bool> wanted() const {
    std::vector<bool> edges(num_outputs());
    for (size_t edge = 0; edge < edges.size(); ++edge)
      edges[edge] = task_should_compute_output(edge);
    return edges;
  }

  Derivative derivative_;
  std::array<SavedVariable, 3> saved_;  // by operand
};

// Compiled autograd builds a graph of the backward once for equal keys, and puts other tensors in. These are
// the parts of the key.
void PassBackward::compiled_args(CompiledNodeArgs& args) const {
  for (const SavedVariable& saved : saved_) args.collect(saved, /*is_output=*/false);
  const auto& [result, params, sizes, strides] = derivative_;
  args.collect(static_cast<int64_t>(result));
  args.collect(at::IntArrayRef(params.stride));
  args.collect(at::IntArrayRef(params.padding));
  args.collect(at::IntArrayRef(params.dilation));
  args.collect(params.groups);
  for (const auto* all : {&sizes, &strides})
    for (const Extents& numbers : *all) args.collect(at::IntArrayRef(numbers));
}

// And this puts a call into that graph, of a function of the gradient and the saved tensors.
variable_list PassBackward::apply_with_saved(const variable_list& grads,
                                             SwapSavedVariables& swapped) {
  namespace compiled = torch::dynamo::autograd;
  for (SavedVariable& saved : saved_) swapped.before(saved);
  std::vector<c10::IValue> kept;
  std::array<std::optional<size_t>, 3> position;  // in `kept`, by operand
  for (size_t operand = 0; operand < saved_.size(); ++operand) {
    const Tensor tensor = saved_[operand].unpack();
    if (!tensor.defined()) continue;
    position[operand] = kept.size();
    kept.emplace_back(tensor);
  }
  const auto run = [derivative = derivative_, wanted = wanted(), position](
                       const variable_list& grads, const std::vector<c10::IValue>& kept) {
    return gradients_of(derivative, grads[0], wanted, [&](Operand factor) {
      return kept[position[third(derivative.result, factor)].value()].toTensor();
    });
  };
  const auto& compiler = compiled::getPyCompilerInterface();
  const std::vector<at::TypePtr> schema(kept.size(), at::TensorType::get());
  const std::string function =
      compiler->bind_function(swapped.get_py_compiler(), name(), run, schema,
                              /*is_custom_function=*/true, /*is_traceable=*/true);
  const auto metadata = compiled::IValuePacker<std::vector<std::optional<InputMetadata>>>::pack(
      compiled::get_input_metadata(next_edges()));
  variable_list gradients = compiler->call_function(swapped.get_py_compiler(), "apply_functional",
                                                    function, grads, kept, metadata);
  for (SavedVariable& saved : saved_) swapped.after(saved);
  return gradients;
}

// A graph owns its nodes by an intrusive pointer. Before PyTorch 2.13 it was a shared one, and a node
// was deleted without recursion by a function of PyTorch's.
template <typename Node>
auto made_node(const RecordedPass& pass, const std::optional<Tensor>& bias) {
  if constexpr (std::is_base_of_v<c10::intrusive_ptr_target, Node>)
    return c10::make_intrusive<Node>(pass, bias);
  else
    return std::shared_ptr<Node>(new Node(pass, bias), [](Node* node) { deleteNode(node); });
}

}  // namespace

void record(const Tensor& result, const RecordedPass& pass, const std::optional<Tensor>& bias) {
  torch::autograd::set_history(result, made_node<PassBackward>(pass, bias));
}

}  // namespace convgrad
