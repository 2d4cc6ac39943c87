// Where a call with CPU tensors meets autograd.
#pragma once

namespace convgrad {

// Has this thread's calls recorded by the Python Functions alone, and returns what held before. For tests,
// which show that both ways agree.
bool record_in_python(bool wanted);

}  // namespace convgrad
