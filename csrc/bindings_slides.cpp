// The tiles of depthwise loops in Python, one call each, for the tests of their contract in cpu/kernels/tiles.h.
#include "bindings_tiles.h"

namespace py = pybind11;

namespace convgrad {
namespace {

using of_tiles::at;
using of_tiles::dispatch;
using of_tiles::if_given;
using of_tiles::Memory;
using of_tiles::runs_of;

void check_extent(const char* name, int64_t extent, int64_t most) {
  TORCH_CHECK_VALUE(1 <= extent && extent <= most, "slide: ", name, " must be from 1 to ", most,
                    ", but got ", extent);
}

void check_index(const std::vector<int64_t>& index, int64_t channels, int64_t lanes) {
  TORCH_CHECK_VALUE(static_cast<int64_t>(index.size()) == lanes, "slide: index must have ", lanes,
                    " numbers, but got ", index.size());
  for (const int64_t first : index)
    TORCH_CHECK_VALUE(0 <= first && first + channels <= lanes, "slide: an index must be from 0 to ",
                      lanes - channels, ", but got ", first);
}

// `extents` are vectors, rows and taps. If the index is not empty, there is one vector, and `steps` has the channels.
void slide(const std::string& isa, bool spread, std::array<int64_t, 3> extents,
           const std::vector<int64_t>& index, const Memory& source, const Memory& weight,
           const Memory& acc, const py::dict& steps, bool fresh) {
  const auto [vecs, rows, taps] = extents;
  const cpu::SlideKind kind = !index.empty() ? cpu::kByIndex
                              : spread       ? cpu::kByNumbers
                                             : cpu::kByVectors;
  check_extent("vecs", vecs, kind == cpu::kByIndex ? 1 : cpu::kMaxSlideVecs);
  check_extent("rows", rows, cpu::max_slide_rows(vecs));
  check_extent("taps", taps, cpu::kMaxSlideTaps);
  const auto step = [&](const char* name) { return steps[name].cast<int64_t>(); };
  const std::vector<cpu::Run> runs = runs_of(steps);
  const int64_t channels = kind == cpu::kByIndex ? step("channels") : 1;
  dispatch(isa, source.first, [&](auto zero, const auto& tiles) {
    using T = decltype(zero);
    if (kind == cpu::kByIndex) check_index(index, channels, tiles.lanes);
    tiles.slide[kind][vecs][rows][taps](
        {.source = at<T>(source),
         .source_stride = step("source_stride"),
         .weight = at<T>(weight),
         .weight_stride = step("weight_stride"),
         .runs = runs.data(),
         .run_count = static_cast<int64_t>(runs.size()),
         .index = index.data(),
         .channels = channels,
         .weight_channel = kind == cpu::kByIndex ? step("weight_channel") : 0,
         .acc = at<T>(acc),
         .acc_stride = step("acc_stride"),
         .fresh = fresh,
         .more_tiles = if_given(steps, "more_tiles"),
         .source_next = if_given(steps, "source_next"),
         .acc_next = if_given(steps, "acc_next")});
  });
}

// `extents` are rows and taps. If the index is empty, lane l reads element l of a source.
void slide_taps(const std::string& isa, std::array<int64_t, 2> extents,
                const std::vector<int64_t>& columns, const std::vector<int64_t>& index,
                const Memory& source, const Memory& grad, const Memory& acc, const py::dict& steps,
                bool fresh) {
  const auto [rows, taps] = extents;
  check_extent("rows", rows, cpu::kMaxSlideTapsRows);
  check_extent("taps", taps, cpu::kMaxSlideTaps);
  const auto step = [&](const char* name) { return steps[name].cast<int64_t>(); };
  const std::vector<cpu::Run> runs = runs_of(steps);
  const auto count = static_cast<int64_t>(columns.size());
  dispatch(isa, source.first, [&](auto zero, const auto& tiles) {
    using T = decltype(zero);
    check_extent("columns", count, tiles.slide_columns(taps));
    const int64_t channel = index.empty() ? 0 : step("channel");
    if (!index.empty()) check_index(index, channel + 1, tiles.lanes);
    tiles.slide_taps[!index.empty()][count][rows][taps](
        {.source = at<T>(source),
         .source_stride = step("source_stride"),
         .columns = columns.data(),
         .index = index.data(),
         .channel = channel,
         .grad = at<T>(grad),
         .grad_stride = step("grad_stride"),
         .runs = runs.data(),
         .run_count = static_cast<int64_t>(runs.size()),
         .length = step("length"),
         .source_step = step("source_step"),
         .grad_step = step("grad_step"),
         .acc = at<T>(acc),
         .acc_column = step("acc_column"),
         .acc_stride = step("acc_stride"),
         .fresh = fresh});
  });
}

}  // namespace

void bind_slides(py::module_& m) {
  m.def("tile_slide", &slide, py::arg("isa"), py::arg("spread"), py::arg("extents"),
        py::arg("index"), py::arg("source"), py::arg("weight"), py::arg("acc"), py::arg("steps"),
        py::arg("fresh"));
  m.def("tile_slide_taps", &slide_taps, py::arg("isa"), py::arg("extents"), py::arg("columns"),
        py::arg("index"), py::arg("source"), py::arg("grad"), py::arg("acc"), py::arg("steps"),
        py::arg("fresh"));
}

}  // namespace convgrad
