// The costs that decide between Winograd's form and the loops over all taps, for each instruction set.
#pragma once

#include <string_view>

namespace convgrad::cpu {

// In multiply-adds of one vector, at the speed of a long sum from the cache. benchmarks/calibrate.py fits such
// costs to the times of both forms on layers of many sizes, and prints a row of the table in costs.cpp.
struct Costs {
  std::string_view isa;
  double products;    // the 16 products of a vector of transformed tiles, for each pair of channels
  double pair;        // the call of a tile, for each pair of channels
  double tiles;       // storing a vector of output tiles, for each block of destination channels
  double outputs;     // restoring a vector of output tiles, for each destination channel
  double row;         // transforming a row of sources, for each channel; in addition:
  double row_vector;  //   for each vector of tiles in the row
  double row_apart;   //   for each tile whose pixels are not adjacent
  double grads;       // grad_weight: transforming a vector of tiles of grad_output
  double grads_apart;    //   where their pixels are not adjacent
  double direct_pair;    // loops over all taps: packing, for each pair of channels
  double direct_pixels;  //   storing a vector of pixels, for each destination channel
};

// Raises an error if the table does not have the instruction set.
Costs costs_of(std::string_view isa);

// For benchmarks/calibrate.py and tests: from now on, for every thread, the costs of `costs.isa`.
void set_costs(const Costs& costs);

}  // namespace convgrad::cpu
