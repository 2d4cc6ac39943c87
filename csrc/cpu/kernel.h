// A kernel is one implementation of the three passes; the registry knows all that were built.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "conv_shape.h"

namespace convgrad::cpu {

struct Kernel {
  std::string name;
  std::string isa;  // the instruction set that it needs; "any" for portable code
  std::vector<at::ScalarType> dtypes;
  bool available;  // on this processor, and not ruled out by CONVGRAD_ISA

  void (*forward)(const ConvShape&, const at::Tensor& input, const at::Tensor& weight,
                  const std::optional<at::Tensor>& bias, at::Tensor& output);
  void (*grad_input)(const ConvShape&, const at::Tensor& weight, const at::Tensor& grad_output,
                     at::Tensor& grad_input);
  void (*grad_weight)(const ConvShape&, const at::Tensor& input, const at::Tensor& grad_output,
                      at::Tensor& grad_weight);

  std::vector<std::string> passes() const;
};

// Every kernel of this build, fastest first; the last one, 'reference', takes every dtype.
// Raises a ValueError if CONVGRAD_ISA names none of the fast ones that this processor runs.
const std::vector<Kernel>& kernels();

// The kernel that serves `dtype` in this thread: the selected one if it takes the dtype, otherwise
// the first that does.
const Kernel& kernel_for(at::ScalarType dtype);

// Selects by name for the calling thread and returns the previous selection; nullopt means none.
std::optional<std::string> select_kernel(std::optional<std::string> name);

}  // namespace convgrad::cpu
