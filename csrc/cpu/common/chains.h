// How the sum of one result is cut, so that rounding errors stay small: the products of a chain are added in a
// register, and the sums of chains in small groups. The cut depends on the reduction's extents alone: the
// digits of a result change neither with the batch, the filters and the threads, nor with the processor's
// caches.
#pragma once

#include <algorithm>
#include <cmath>

#include "cpu/common/blocks.h"

namespace convgrad::cpu {

// The most products of a chain of a sum of `products`. With n products in chains of L, the rounding error is
// that of n/L large additions to the second sum and of n additions in chains, which are L/n as large. The
// total is least where L grows as n^(2/3).
inline int64_t longest_chain(int64_t products) {
  const double n = static_cast<double>(products);
  return std::clamp<int64_t>(static_cast<int64_t>(std::cbrt(n * n)), 192, 384);
}

// The most pixels that grad_weight adds in a register before their sum goes to a second one.
constexpr int64_t kLongestPixelChain = 512;

// Whether a tile's runs go along the channels: along the longer one of channels and horizontal taps.
constexpr bool runs_along_channels(int64_t C, int64_t T_w) { return C >= T_w; }

// The products of one chain: every pair of a channel of the source and a tap.
struct Chain {
  Range channels, taps_h, taps_w;

  constexpr bool is_first_of_channels() const { return taps_h.lo == 0 && taps_w.lo == 0; }
};

// A sum over C channels of the source and T_h x T_w taps. Where runs go along the channels, a chain has many channels of
// few rows of taps: each run costs as much as a few steps. Elsewhere it has all taps of some channels. Under a large
// kernel, it has some rows of taps of one channel, or part of a row.
struct Chains {
  int64_t C, T_h, T_w;
  Blocks channels, taps_h, taps_w;  // of a chain

  static Chains of(int64_t C, int64_t T_h, int64_t T_w) {
    if (runs_along_channels(C, T_w)) return along_channels(C, T_h, T_w);
    const int64_t longest = longest_chain(product(C, T_h, T_w));
    Chains chains{C, T_h, T_w, {}, {}, Blocks::covering(T_w, longest)};
    chains.taps_h = Blocks::covering(T_h, fitting(longest, T_w));
    const bool whole = chains.taps_h.count * chains.taps_w.count <= 1;
    chains.channels = Blocks::covering(C, whole ? fitting(longest, product(T_h, T_w)) : 1);
    return chains;
  }

  int64_t count() const { return channels.count * taps_h.count * taps_w.count; }

  Chain at(int64_t i) const {
    return {channels.at(i / (taps_h.count * taps_w.count), C),
            taps_h.at(i / taps_w.count % taps_h.count, T_h), taps_w.at(i % taps_w.count, T_w)};
  }

  // Chains in groups that are each summed before the groups are; one group if the chains are few.
  static Blocks groups_of(int64_t chains) {
    constexpr int64_t kFew = 32, kGroups = 8;
    return Blocks::covering(chains,
                            chains <= kFew ? kFew : Blocks::covering(chains, kGroups).count);
  }

  // The number of sums that are kept at a time: one for each level of groups.
  static int64_t levels_of(int64_t chains) {
    const Blocks groups = groups_of(chains);
    return groups.count <= 1 ? 1 : 1 + levels_of(groups.size);
  }

 private:
  static Chains along_channels(int64_t C, int64_t T_h, int64_t T_w) {
    const int64_t longest = longest_chain(product(C, T_h, T_w));
    Chains chains{C, T_h, T_w, {}, {}, Blocks::covering(T_w, longest)};
    chains.channels = Blocks::covering(C, fitting(longest, chains.taps_w.size));
    chains.taps_h =
        Blocks::covering(T_h, fitting(longest, product(chains.channels.size, chains.taps_w.size)));
    return chains;
  }

  // How many channels or taps of `products` products each a chain can have, one at least.
  static int64_t fitting(int64_t longest, int64_t products) {
    return std::max<int64_t>(1, longest / std::max<int64_t>(1, products));
  }
};

}  // namespace convgrad::cpu
