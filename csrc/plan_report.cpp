#include "plan_report.h"

namespace convgrad {

const char* name_of(Pass pass) {
  switch (pass) {
    case Pass::kForward:
      return "forward";
    case Pass::kGradInput:
      return "grad_input";
    default:
      return "grad_weight";
  }
}

}  // namespace convgrad
