// Single kernels of an instruction set in Python, one call each, for the tests of the contract in
// cpu/kernels/tiles.h. Memory is a tensor of one axis and an offset in elements.
#include "bindings_tiles.h"

namespace py = pybind11;

namespace convgrad {
namespace {

using of_tiles::at;
using of_tiles::dispatch;
using of_tiles::dispatch_results;
using of_tiles::if_given;
using of_tiles::Memory;
using of_tiles::runs;
using of_tiles::runs_of;
using of_tiles::tiles_of;

// With "vectors_adjacent" among the steps, the tile for steps that are far apart; B has no panels then.
void tile(const std::string& isa, std::pair<int64_t, int64_t> rows_vecs, const Memory& a,
          const Memory& b, const Memory& acc, const py::dict& steps, bool fresh) {
  const auto [rows, vecs] = rows_vecs;
  const auto step = [&](const char* name) { return steps[name].cast<int64_t>(); };
  const std::vector<cpu::Run> runs = runs_of(steps);
  dispatch(isa, a.first, [&](auto zero, const auto& tiles) {
    using T = decltype(zero);
    TORCH_CHECK_VALUE(1 <= vecs && vecs <= cpu::kMaxVecs, "tile: vecs must be from 1 to ",
                      cpu::kMaxVecs, ", but got ", vecs);
    TORCH_CHECK_VALUE(1 <= rows && rows <= tiles.max_rows(vecs), "tile: rows must be from 1 to ",
                      tiles.max_rows(vecs), ", but got ", rows);
    const bool adjacent = steps.contains("vectors_adjacent");
    const int64_t row_stride = step("row_stride");
    const auto kernel = adjacent ? tiles.tile[cpu::kStepsApart][vecs][rows]
                                 : tiles.tile_for(row_stride, vecs, rows);
    kernel({.a = at<T>(a),
            .from = 0,
            .row_stride = row_stride,
            .b = at<T>(b),
            .panel_stride = adjacent ? 0 : step("panel_stride"),
            .runs = runs.data(),
            .run_count = static_cast<int64_t>(runs.size()),
            .length = step("length"),
            .a_step = step("a_step"),
            .b_step = step("b_step"),
            .steps_ahead = cpu::kStepsAhead,
            .acc = at<T>(acc),
            .acc_stride = step("acc_stride"),
            .fresh = fresh,
            .more_tiles = if_given(steps, "more_tiles"),
            .a_next = if_given(steps, "a_next"),
            .b_next = if_given(steps, "b_next"),
            .acc_next = if_given(steps, "acc_next")});
  });
}

void pack(const std::string& isa, const Memory& tensor, const Memory& vectors,
          std::array<int64_t, 5> steps) {
  dispatch(isa, tensor.first, [&](auto zero, const auto& tiles) {
    using T = decltype(zero);
    const auto [step, lane_stride, vector_stride, count, lanes] = steps;
    tiles.pack({.tensor = at<T>(tensor),
                .step = step,
                .lane_stride = lane_stride,
                .vectors = at<T>(vectors),
                .vector_stride = vector_stride,
                .count = count,
                .lanes = lanes});
  });
}

void unpack(const std::string& isa, const Memory& vectors, const Memory& tensor,
            std::array<int64_t, 5> steps) {
  dispatch_results(isa, tensor.first, [&](auto stored, auto sum, const auto& tiles) {
    const auto [step, lane_stride, vector_stride, count, lanes] = steps;
    tiles.unpack({.vectors = at<decltype(sum)>(vectors),
                  .vector_stride = vector_stride,
                  .tensor = at<decltype(stored)>(tensor),
                  .step = step,
                  .lane_stride = lane_stride,
                  .count = count,
                  .lanes = lanes});
  });
}

// `rows` is their number, and the steps from row to row on both sides.
void load_rows(const std::string& isa, const Memory& from, int64_t step, const Memory& to,
               int64_t count, std::array<int64_t, 3> rows) {
  dispatch(isa, from.first, [&](auto zero, const auto& tiles) {
    using T = decltype(zero);
    tiles.load_rows({.from = at<T>(from),
                     .step = step,
                     .to = at<T>(to),
                     .count = count,
                     .rows = rows[0],
                     .from_row = rows[1],
                     .to_row = rows[2]});
  });
}

void split_rows(const std::string& isa, const Memory& from, int64_t step, const Memory& even,
                const Memory& odd, int64_t count, std::array<int64_t, 3> rows) {
  dispatch(isa, from.first, [&](auto zero, const auto& tiles) {
    using T = decltype(zero);
    tiles.split_rows({.from = at<T>(from),
                      .step = step,
                      .even = at<T>(even),
                      .odd = at<T>(odd),
                      .count = count,
                      .rows = rows[0],
                      .from_row = rows[1],
                      .to_row = rows[2]});
  });
}

void store_rows(const std::string& isa, const Memory& from, double bias, const Memory& to,
                int64_t step, int64_t count, std::array<int64_t, 3> rows) {
  dispatch_results(isa, to.first, [&](auto stored, auto sum, const auto& tiles) {
    tiles.store_rows({.from = at<decltype(sum)>(from),
                      .bias = static_cast<decltype(sum)>(bias),
                      .to = at<decltype(stored)>(to),
                      .step = step,
                      .count = count,
                      .rows = rows[0],
                      .from_row = rows[1],
                      .to_row = rows[2]});
  });
}

void copy_vectors(const std::string& isa, const Memory& from, int64_t from_stride, const Memory& to,
                  int64_t to_stride, int64_t count) {
  dispatch(isa, from.first, [&](auto zero, const auto& tiles) {
    using T = decltype(zero);
    tiles.copy_vectors({.from = at<T>(from),
                        .from_stride = from_stride,
                        .to = at<T>(to),
                        .to_stride = to_stride,
                        .count = count});
  });
}

void transform_sources(const std::string& isa, const Memory& rows, int64_t row_size,
                       int64_t odd_columns, const Memory& transformed, int64_t stride,
                       int64_t count) {
  dispatch(isa, rows.first, [&](auto zero, const auto& tiles) {
    using T = decltype(zero);
    const T* first = at<T>(rows);
    tiles.transform_sources(
        {.rows = {first, first + row_size, first + 2 * row_size, first + 3 * row_size},
         .odd_columns = odd_columns,
         .transformed = at<T>(transformed),
         .transformed_stride = stride,
         .count = count});
  });
}

void transform_taps(const std::string& isa, const Memory& taps, std::pair<int64_t, int64_t> steps,
                    const Memory& transformed, int64_t stride, int64_t count) {
  dispatch(isa, taps.first, [&](auto zero, const auto& tiles) {
    using T = decltype(zero);
    tiles.transform_taps({.taps = at<T>(taps),
                          .down = steps.first,
                          .right = steps.second,
                          .transformed = at<T>(transformed),
                          .transformed_stride = stride,
                          .count = count});
  });
}

void restore_outputs(const std::string& isa, const Memory& transformed, int64_t stride, double bias,
                     const Memory& upper, const Memory& lower, int64_t count) {
  dispatch(isa, upper.first, [&](auto zero, const auto& tiles) {
    using T = decltype(zero);
    tiles.restore_outputs({.transformed = at<T>(transformed),
                           .transformed_stride = stride,
                           .bias = static_cast<T>(bias),
                           .rows = {at<T>(upper), at<T>(lower)},
                           .count = count});
  });
}

void transform_grads(const std::string& isa, const Memory& upper, const Memory& lower,
                     const Memory& transformed, int64_t stride, int64_t count) {
  dispatch(isa, upper.first, [&](auto zero, const auto& tiles) {
    using T = decltype(zero);
    tiles.transform_grads({.rows = {at<T>(upper), at<T>(lower)},
                           .transformed = at<T>(transformed),
                           .transformed_stride = stride,
                           .count = count});
  });
}

void restore_taps(const std::string& isa, const Memory& transformed, const Memory& taps,
                  int64_t stride, int64_t count) {
  dispatch(isa, taps.first, [&](auto zero, const auto& tiles) {
    using T = decltype(zero);
    tiles.restore_taps(
        {.transformed = at<T>(transformed), .taps = at<T>(taps), .stride = stride, .count = count});
  });
}

// Lanes, and the vectors of sums that registers hold.
std::pair<int64_t, int64_t> tile_shape(const std::string& isa, int64_t bytes) {
  if (bytes == sizeof(float)) {
    const auto& tiles = tiles_of<float>(isa);
    return {tiles.lanes, tiles.max_accs};
  }
  const auto& tiles = tiles_of<double>(isa);
  return {tiles.lanes, tiles.max_accs};
}

}  // namespace

void bind_tiles(py::module_& m) {
  m.def("tile_isa_runs", &runs, py::arg("isa"));
  m.def("tile_shape", &tile_shape, py::arg("isa"), py::arg("bytes"));
  m.def("tile", &tile, py::arg("isa"), py::arg("rows_vecs"), py::arg("a"), py::arg("b"),
        py::arg("acc"), py::arg("steps"), py::arg("fresh"));
  m.def("tile_pack", &pack, py::arg("isa"), py::arg("tensor"), py::arg("vectors"),
        py::arg("steps"));
  m.def("tile_unpack", &unpack, py::arg("isa"), py::arg("vectors"), py::arg("tensor"),
        py::arg("steps"));
  m.def("tile_load_rows", &load_rows, py::arg("isa"), py::arg("source"), py::arg("step"),
        py::arg("to"), py::arg("count"), py::arg("rows"));
  m.def("tile_split_rows", &split_rows, py::arg("isa"), py::arg("source"), py::arg("step"),
        py::arg("even"), py::arg("odd"), py::arg("count"), py::arg("rows"));
  m.def("tile_store_rows", &store_rows, py::arg("isa"), py::arg("source"), py::arg("bias"),
        py::arg("to"), py::arg("step"), py::arg("count"), py::arg("rows"));
  m.def("tile_copy_vectors", &copy_vectors, py::arg("isa"), py::arg("source"),
        py::arg("source_stride"), py::arg("to"), py::arg("to_stride"), py::arg("count"));
  m.def("tile_transform_sources", &transform_sources, py::arg("isa"), py::arg("rows"),
        py::arg("row_size"), py::arg("odd_columns"), py::arg("transformed"), py::arg("stride"),
        py::arg("count"));
  m.def("tile_transform_taps", &transform_taps, py::arg("isa"), py::arg("taps"), py::arg("steps"),
        py::arg("transformed"), py::arg("stride"), py::arg("count"));
  m.def("tile_restore_outputs", &restore_outputs, py::arg("isa"), py::arg("transformed"),
        py::arg("stride"), py::arg("bias"), py::arg("upper"), py::arg("lower"), py::arg("count"));
  m.def("tile_transform_grads", &transform_grads, py::arg("isa"), py::arg("upper"),
        py::arg("lower"), py::arg("transformed"), py::arg("stride"), py::arg("count"));
  m.def("tile_restore_taps", &restore_taps, py::arg("isa"), py::arg("transformed"), py::arg("taps"),
        py::arg("stride"), py::arg("count"));
}

}  // namespace convgrad
