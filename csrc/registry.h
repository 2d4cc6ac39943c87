// Every kernel of this build, and the choice between them by device and dtype.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernel.h"

namespace convgrad {

// Device by device, the fastest first; the CPU's last one, 'reference', takes every dtype.
// Raises a ValueError if CONVGRAD_ISA names none of the fast ones that this processor runs.
const std::vector<Kernel>& kernels();

// The kernel that serves a device and dtype in this thread: the selected one if it does, otherwise
// the first that does.
const Kernel& kernel_for(c10::DeviceType device, at::ScalarType dtype);

// Selects by name for the calling thread and returns the previous selection; nullopt means none.
std::optional<std::string> select_kernel(std::optional<std::string> name);

// The names of the available ones, quoted, for a message.
std::string available_names(const std::vector<Kernel>& kernels);

}  // namespace convgrad
