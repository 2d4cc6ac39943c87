#include "cpu/winograd/choice.h"

#include "cpu/common/blocks.h"
#include "cpu/winograd/output_tile_grid.h"
#include "cpu/winograd/weight_blocking.h"

namespace convgrad::cpu {
namespace {

constexpr const char* kOtherShape = "Winograd's form needs three by three taps and stride 1";
constexpr const char* kNoPairs =
    "Winograd's transforms compute with single numbers, not with pairs";
constexpr const char* kNotAllowed = "Winograd is not allowed: its error is another";
constexpr const char* kTooCostly =
    "Winograd is allowed, but its transforms cost more than they save";

int64_t vectors_of(int64_t extent, int64_t lanes) { return Blocks::covering(extent, lanes).count; }

// With the part of the last one that is used.
double vectors_in(int64_t numbers, int64_t lanes) {
  return static_cast<double>(numbers) / static_cast<double>(lanes);
}

// The cost of the transforms of one channel's sources.
double cost_of_sources(const Costs& costs, const OutputTileGrid& grid, int64_t lanes) {
  const double rows = static_cast<double>(grid.h.size() * grid.w.phases);
  const double apart = grid.w.distance > 1 ? costs.row_apart : 0;
  return rows * (costs.row + costs.row_vector * vectors_of(grid.w.per_phase, lanes) +
                 apart * grid.w.per_phase);
}

bool pays(const Target& target, const Gather& g) {
  const Costs& costs = target.costs;
  const int64_t lanes = target.tiles.lanes;
  const int64_t C = g.filters_are_lanes ? g.C : kFilters;
  const int64_t M = g.filters_are_lanes ? kFilters : g.M;
  const OutputTileGrid grid(g.h, g.w, /*images=*/1);
  const double tiles = vectors_of(grid.count(), lanes), blocks = vectors_of(M, lanes);
  const double winograd = (tiles * costs.products + costs.pair) * C * M +
                          cost_of_sources(costs, grid, lanes) * C +
                          tiles * (costs.tiles * blocks + costs.outputs * M);
  const double meetings = vectors_in(product(g.h.meetings(), g.w.meetings()), lanes);
  const double pixels = vectors_in(product(g.h.D, g.w.D), lanes);
  const double direct =
      (meetings + costs.direct_pair) * C * blocks * lanes + pixels * costs.direct_pixels * M;
  return winograd < direct;
}

// Each block of channels on one side transforms the other side again.
bool pays(const Target& target, const Walk& h, const Walk& w, int64_t C_in) {
  const Costs& costs = target.costs;
  const int64_t lanes = target.tiles.lanes;
  const int64_t most = WinogradWeightBlocking::channels_of_item(target);
  const OutputTileGrid grid(h, w, /*images=*/1);
  const double vectors = vectors_of(kFilters, lanes);
  const double grads = grid.w.distance > 1 ? costs.grads_apart : costs.grads;
  const double winograd =
      grid.count() * vectors * (costs.products * C_in + grads * vectors_of(C_in, most)) +
      cost_of_sources(costs, grid, lanes) * C_in * vectors_of(kFilters, most);
  return winograd < static_cast<double>(h.meetings() * w.meetings()) * C_in * vectors;
}

}  // namespace

const char* why_not_winograd(const Target& target, const Gather& g) {
  if (!OutputTileGrid::fits(g.h, g.w)) return kOtherShape;
  if (target.tiles.pairs) return kNoPairs;
  if (!target.winograd_allowed) return kNotAllowed;
  return pays(target, g) ? nullptr : kTooCostly;
}

const char* why_not_winograd(const Target& target, const ConvShape& shape) {
  const Walk h = shape.h.outputs(), w = shape.w.outputs();
  if (!OutputTileGrid::fits(h, w)) return kOtherShape;
  if (target.tiles.pairs) return kNoPairs;
  if (!target.winograd_allowed) return kNotAllowed;
  return pays(target, h, w, shape.C_in_per_group()) ? nullptr : kTooCostly;
}

}  // namespace convgrad::cpu
