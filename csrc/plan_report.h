// A plan in words and numbers, for every device, as tools and tests show it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace convgrad {

enum class Pass { kForward, kGradInput, kGradWeight };

const char* name_of(Pass pass);

// Of a whole forward or grad_weight, or of the phases of grad_input that have the same plan.
struct PlanReport {
  std::string path;
  std::string reason;
  int64_t phases;
  std::vector<std::pair<std::string, std::string>> blocking;  // name and value of each part
  int64_t packed_bytes;   // the weight, or the sums of grad_weight, in the order of tiles
  int64_t scratch_bytes;  // of one thread
  double padded_share;    // taps that meet padding, of all pairs of a destination pixel and a tap
};

}  // namespace convgrad
