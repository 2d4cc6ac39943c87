// The common call of convgrad_ext.conv2d, without Python in between.
#pragma once

#include <Python.h>

namespace convgrad {

// plain_conv2d(input, weight, bias, stride, padding, dilation, groups): the output, or None where the call is
// not a common one. Then nothing has been done, and functional.py serves or refuses the call.
PyMethodDef plain_conv2d_definition();

}  // namespace convgrad
