#include "cpu/report.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <sstream>

#include "cpu/passes.h"
#include "cpu/plan.h"

namespace convgrad::cpu {
namespace {

using Details = std::vector<std::pair<std::string, std::string>>;

// "a x b x c", for any number of factors.
template <typename... Numbers>
std::string times(int64_t first, Numbers... more) {
  std::string text = std::to_string(first);
  ((text += " x " + std::to_string(more)), ...);
  return text;
}

std::string chain_of(const Chains& chains) {
  return times(chains.channels.size, chains.taps_h.size, chains.taps_w.size) + " of " +
         times(chains.C, chains.T_h, chains.T_w);
}

Details details(std::monostate, const TileShape&) { return {}; }

Details details(const DirectBlocking& b, const TileShape& tiles) {
  return {{"tile, rows x vectors", times(tiles.max_rows(b.vecs.size), b.vecs.size)},
          {"band, rows x columns", times(b.rows.size, b.columns.size)},
          {"images of an item", times(b.images.size)},
          {"channels of an item", times(b.parts.size * b.tile_lanes())},
          {"chain, channels x taps", chain_of(b.chains)},
          {"source", b.strips ? "strips" : "the tensor"}};
}

Details details(const PixelwiseBlocking& b, const TileShape& tiles) {
  return {{"tile, rows x vectors", times(b.row_blocks.size, b.kVecs)},
          {"pixels of an item", times(b.slices.size * b.kVecs * tiles.lanes)},
          {"channels of an item", times(b.parts.size * b.row_blocks.size)},
          {"chain, channels", times(b.channels.size)},
          {"source", b.in_place ? "the tensor" : "strips"}};
}

Details details(const ChannelBlocking& b, const TileShape&) {
  return {{"lanes", "groups"},
          {"tile, rows x vectors", times(max_slide_rows(b.width / b.lanes), b.width / b.lanes)}};
}

Details details(const MapBlocking& b, const TileShape& tiles) {
  Details all = details(b.channels, tiles);
  all.emplace_back("source", "copies of maps");
  return all;
}

Details details(const GroupBlocking&, const TileShape&) {
  return {{"lanes", "channels of groups"}, {"tile, rows x vectors", times(max_slide_rows(1), 1)}};
}

Details details(const ChannelWeightBlocking& b, const TileShape&) {
  const std::string lanes = b.C == 1 ? "groups" : "channels of groups";
  return {{"lanes", lanes},
          {lanes + " of an item", times(b.parts.size * b.lanes)},
          {"chunks of rows", times(b.chunks.count)}};
}

Details details(const PlaneBlocking& b, const TileShape& tiles) {
  const int64_t vectors = b.row.width / tiles.lanes;
  return {{"lanes", "pixels of a row"},
          {"tile, rows x vectors", times(b.tile_rows, std::min<int64_t>(kMaxSlideVecs, vectors))},
          {"band, rows", times(b.rows.size)},
          {"images of an item", times(b.row.images.size)}};
}

Details details(const RowwiseBlocking& b, const TileShape&) {
  return {{"lanes", "pixels of a row"},
          {"tile, rows x vectors", times(b.channels.size, b.vecs.size)},
          {"band, rows", times(b.rows.size)},
          {"images of an item", times(b.row.images.size)},
          {"chain, channels x taps", chain_of(b.chains)}};
}

Details details(const PlaneWeightBlocking& b, const TileShape&) {
  return {{"lanes", "pixels of a row"},
          {"band, rows", times(b.rows.size)},
          {"images at a time", times(b.row.images.size)},
          {"chunks of bands", times(b.chunks.count)}};
}

Details details(const WinogradBlocking& b, const TileShape&) {
  return {{"tile, rows x vectors", times(b.rows, b.slices.size)},
          {"output tiles of an item", times(b.tiles_of_span())},
          {"channels of an item", times(b.parts.size * b.blocks.size)},
          {"channels of the source at a time", times(b.channels.size)},
          {"weight", b.one_item ? "transformed by each item" : "transformed once"}};
}

Details details_of_sums(const WeightSums& sums, int64_t tile_rows) {
  return {{"tile, rows x vectors", times(tile_rows, sums.outs.size)},
          {"channels of an item, in x out",
           times(sums.ins.size, sums.parts.size * sums.vector_size())}};
}

Details details(const WeightBlocking& b, const TileShape&) {
  const Stretches& s = b.stretches;
  Details all = details_of_sums(b.sums, b.tile_channels * b.tile_taps);
  all.emplace_back("rows of a tile", b.tile_taps > 1 ? "taps of a row" : "input channels");
  all.emplace_back("stretch, images x rows x columns",
                   times(s.images.size, s.rows.size, s.columns.size));
  all.emplace_back("chunks of stretches", times(b.chunks.count));
  all.emplace_back("source", b.copied ? "strips" : "the tensor");
  all.emplace_back("grad_output", b.packed ? "packed" : "the tensor");
  return all;
}

Details details(const WinogradWeightBlocking& b, const TileShape&) {
  Details all = details_of_sums(b.sums, b.tile_rows);
  all.emplace_back("output tiles at a time", times(b.span));
  all.emplace_back("chunks of output tiles", times(b.chunks.count));
  return all;
}

// A report under construction, to which phases are added.
struct Counted {
  PlanReport report;
  double pairs;     // of a destination pixel and a tap
  double meetings;  // pairs whose source is inside the image
};

Counted count(const Plan& plan, const TileShape& tiles, const Walk& h, const Walk& w) {
  const auto describe = [&](const auto& blocking) { return details(blocking, tiles); };
  return {{.path = plan.path,
           .reason = plan.reason,
           .phases = 1,
           .blocking = std::visit(describe, plan.blocking),
           .packed_bytes = plan.packed_bytes,
           .scratch_bytes = plan.scratch_bytes,
           .padded_share = 0},
          static_cast<double>(h.D * h.T) * static_cast<double>(w.D * w.T),
          static_cast<double>(h.meetings()) * static_cast<double>(w.meetings())};
}

void add(std::vector<Counted>& all, const Counted& next) {
  const auto same = std::find_if(all.begin(), all.end(), [&](const Counted& other) {
    return next.report.path == other.report.path && next.report.reason == other.report.reason &&
           next.report.blocking == other.report.blocking;
  });
  if (same == all.end()) {
    all.push_back(next);
    return;
  }
  ++same->report.phases;
  same->pairs += next.pairs, same->meetings += next.meetings;
}

std::vector<Counted> count_phases(Pass pass, const Target& target, const ConvShape& whole,
                                  const PassStrides& of_tensors) {
  const Problem problem = Problem{whole, of_tensors, {}}.with_pieces_as_pixels();
  const ConvShape& shape = problem.shape;
  const PassStrides& strides = problem.strides;
  const TileShape& tiles = target.tiles;
  std::vector<Counted> all;
  if (pass == Pass::kForward) {
    const Gather g = gather_of_forward(shape, strides);
    add(all, count(plan_gather(target, g), tiles, g.h, g.w));
  } else if (pass == Pass::kGradInput) {
    const Problem patches = problem.with_patches_as_channels();
    for_each_phase(gather_of_grad_input(patches), patches.shape, [&](const Gather& g) {
      add(all, count(plan_gather(target, g), tiles, g.h, g.w));
    });
  } else {
    const Walk h = shape.h.outputs(), w = shape.w.outputs();
    add(all, count(plan_grad_weight(target, shape, strides), tiles, h, w));
  }
  return all;
}

}  // namespace

bool plans_are_logged() {
  static const bool logged = [] {
    const char* variable = std::getenv("CONVGRAD_LOG");
    const std::string value = variable ? variable : "";
    TORCH_CHECK_VALUE(value.empty() || value == "plan", "CONVGRAD_LOG must be 'plan', but got '",
                      value, "'");
    return value == "plan";
  }();
  return logged;
}

std::vector<PlanReport> report_plan(Pass pass, const TileShape& tiles, const ConvShape& shape,
                                    const PassStrides& strides) {
  std::vector<PlanReport> reports;
  for (Counted& counted : count_phases(pass, target_of(tiles), shape, strides)) {
    if (counted.pairs > 0) counted.report.padded_share = 1 - counted.meetings / counted.pairs;
    reports.push_back(std::move(counted.report));
  }
  return reports;
}

void log_plan(Pass pass, const TileShape& tiles, const ConvShape& shape,
              const PassStrides& strides) {
  if (!plans_are_logged()) return;
  for (const PlanReport& report : report_plan(pass, tiles, shape, strides)) {
    std::ostringstream line;
    line << "convgrad_ext: " << name_of(pass) << " on " << tiles.isa << ", N=" << shape.N
         << " C_in=" << shape.C_in << " C_out=" << shape.C_out << " groups=" << shape.groups
         << " input=" << times(shape.h.I, shape.w.I) << " kernel=" << times(shape.h.K, shape.w.K)
         << " stride=" << times(shape.h.stride, shape.w.stride) << ": " << report.path << " ("
         << report.reason << ")\n";
    std::cerr << line.str();
  }
}

}  // namespace convgrad::cpu
