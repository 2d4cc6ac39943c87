// The parts of the module _C.
#pragma once

#include <torch/extension.h>

#include <utility>

#include "conv_geometry.h"

namespace convgrad {

void bind_geometry(pybind11::module_& m);

}  // namespace convgrad
