// The path that a pass takes, its blocks and the reason: a pure value, made before anything is packed or
// allocated.
#pragma once

#include <variant>

#include "cpu/depthwise/blocking.h"
#include "cpu/depthwise/channel_blocking.h"
#include "cpu/direct/blocking.h"
#include "cpu/direct/weight_blocking.h"
#include "cpu/pixelwise/blocking.h"
#include "cpu/rowwise/blocking.h"
#include "cpu/target.h"
#include "cpu/winograd/blocking.h"
#include "cpu/winograd/weight_blocking.h"

namespace convgrad::cpu {

// A phase of grad_input that no tap meets has no blocking: it is zero.
using Blocking =
    std::variant<std::monostate, DirectBlocking, PixelwiseBlocking, ChannelBlocking, MapBlocking,
                 GroupBlocking, PlaneBlocking, RowwiseBlocking, WinogradBlocking, WeightBlocking,
                 ChannelWeightBlocking, PlaneWeightBlocking, WinogradWeightBlocking>;

struct Plan {
  const char* path;
  const char* reason;
  Blocking blocking;
  int64_t packed_bytes;   // the weight, or the sums of grad_weight, in the order of tiles
  int64_t scratch_bytes;  // of one thread
};

// Of forward, or of one phase of grad_input.
Plan plan_gather(const Target& target, const Gather& g);
Plan plan_grad_weight(const Target& target, const ConvShape& shape, const PassStrides& strides);

}  // namespace convgrad::cpu
