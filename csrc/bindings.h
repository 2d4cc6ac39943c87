// The parts of the module _C.
#pragma once

#include <torch/extension.h>

#include <utility>

#include "geometry/output_tiles.h"

namespace convgrad {

void bind_geometry(pybind11::module_& m);
void bind_plan(pybind11::module_& m);
void bind_results(pybind11::module_& m);
void bind_slides(pybind11::module_& m);
void bind_tiles(pybind11::module_& m);

}  // namespace convgrad
