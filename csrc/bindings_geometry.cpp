// The index relation of geometry/axis.h in Python: for the tests, and for kernels that are written there.
#include "bindings.h"
#include "conv_checks.h"
#include "geometry/tap_groups.h"
#include "geometry/tap_segments.h"

namespace py = pybind11;

namespace convgrad {
namespace {

std::pair<int64_t, int64_t> as_pair(const Range& range) { return {range.lo, range.hi}; }

void check_index(const char* name, int64_t index, int64_t extent) {
  TORCH_CHECK_VALUE(0 <= index && index < extent, name, " must be in [0, ", extent, "), but got ",
                    index);
}

std::vector<std::pair<int64_t, int64_t>> meetings_of_input(const Axis& axis, int64_t i) {
  check_index("i", i, axis.I);
  std::vector<std::pair<int64_t, int64_t>> pairs;
  const auto meetings = axis.meetings_of_inputs();
  for (const Meeting& m : meetings.at(i)) pairs.emplace_back(m.k, m.o);
  return pairs;
}

Axis checked_axis(int64_t I, int64_t K, int64_t stride, std::pair<int64_t, int64_t> padding,
                  int64_t dilation) {
  const auto [lo, hi] = padding;
  TORCH_CHECK_VALUE(I >= 0 && K >= 1 && stride >= 1 && lo >= 0 && hi >= 0 && dilation >= 1,
                    "Axis: input_extent and padding must be >= 0, kernel_size, stride and dilation "
                    ">= 1, but got input_extent=",
                    I, ", kernel_size=", K, ", stride=", stride, ", padding=(", lo, ", ", hi,
                    "), dilation=", dilation);
  TORCH_CHECK_VALUE(lo <= kLargestExtent && hi <= kLargestExtent && I <= kLargestNumber - (lo + hi),
                    "Axis: input_extent and padding must add up to at most ", kLargestNumber,
                    ", but got input_extent=", I, ", padding=(", lo, ", ", hi, ")");
  TORCH_CHECK_VALUE(K == 1 || dilation <= kLargestExtent / K, "Axis: dilation must be at most ",
                    kLargestExtent / K, " for kernel_size=", K, ", but got ", dilation);
  TORCH_CHECK_VALUE(kernel_span(K, dilation) <= padded_extent(I, lo, hi), "Axis: the kernel spans ",
                    kernel_span(K, dilation), " pixels and the padded input has ",
                    padded_extent(I, lo, hi));
  return Axis(I, K, stride, lo, hi, dilation);
}

Walk phase_of(const Axis& axis, int64_t first) {
  check_index("first", first, axis.phases());
  return axis.inputs_of_phase(first);
}

std::optional<OutputTileAxis> checked_output_tiles(const Walk& walk) {
  return OutputTileAxis::fits(walk) ? std::optional(OutputTileAxis::of(walk)) : std::nullopt;
}

Range range_in(const char* name, std::pair<int64_t, int64_t> range, int64_t extent) {
  const auto [lo, hi] = range;
  TORCH_CHECK_VALUE(0 <= lo && lo <= hi && hi <= extent, name, " must be a range in [0, ", extent,
                    "), but got [", lo, ", ", hi, ")");
  return {lo, hi};
}

std::vector<std::array<int64_t, 3>> tap_groups(const Walk& walk, std::pair<int64_t, int64_t> taps,
                                               int64_t largest) {
  TORCH_CHECK_VALUE(largest >= 1, "largest must be >= 1, but got ", largest);
  std::vector<std::array<int64_t, 3>> groups;
  for (const TapGroup& group : TapGroup::of(walk, range_in("taps", taps, walk.T), largest))
    groups.push_back({group.first_tap, group.tap_step, group.count});
  return groups;
}

std::vector<std::pair<int64_t, int64_t>> pixel_groups(const Walk& walk,
                                                      std::pair<int64_t, int64_t> pixels,
                                                      int64_t most) {
  TORCH_CHECK_VALUE(most >= 1, "most must be >= 1, but got ", most);
  std::vector<std::pair<int64_t, int64_t>> groups;
  for (const PixelGroup& group : PixelGroup::of(walk, range_in("pixels", pixels, walk.D), most))
    groups.emplace_back(group.first, group.rows);
  return groups;
}

std::vector<std::array<std::pair<int64_t, int64_t>, 2>> tap_segments(
    const Walk& walk, std::pair<int64_t, int64_t> pixels) {
  std::vector<std::array<std::pair<int64_t, int64_t>, 2>> segments;
  for (const TapSegment& segment : TapSegment::of(walk, range_in("pixels", pixels, walk.D)))
    segments.push_back({as_pair(segment.pixels), as_pair(segment.taps)});
  return segments;
}

// A range that a destination pixel has, for a pixel that the walk has.
auto range_of_pixel(Range (Walk::*of)(int64_t) const) {
  return [of](const Walk& walk, int64_t d) {
    check_index("d", d, walk.D);
    return as_pair((walk.*of)(d));
  };
}

void bind_walk(py::module_& m) {
  py::class_<Walk>(m, "Walk")
      .def_readonly("D", &Walk::D)
      .def_readonly("S", &Walk::S)
      .def_readonly("T", &Walk::T)
      .def_readonly("origin", &Walk::origin)
      .def_readonly("step", &Walk::step)
      .def_readonly("tap_step", &Walk::tap_step)
      .def_readonly("first_pixel", &Walk::first_pixel)
      .def_readonly("pixel_step", &Walk::pixel_step)
      .def_readonly("first_tap", &Walk::first_tap)
      .def_readonly("weight_step", &Walk::weight_step)
      .def("taps_of", range_of_pixel(&Walk::taps_of), py::arg("d"))
      .def("new_sources_of", range_of_pixel(&Walk::new_sources_of), py::arg("d"))
      .def("interior", [](const Walk& walk) { return as_pair(walk.interior()); })
      .def("pixels_apart", &TapGroup::pixels_apart)
      .def("tap_groups", &tap_groups, py::arg("taps"), py::arg("largest"))
      .def("pixel_groups", &pixel_groups, py::arg("pixels"), py::arg("most"))
      .def("tap_segments", &tap_segments, py::arg("pixels"))
      .def("source", &Walk::source, py::arg("d"), py::arg("t"))
      .def("pixel", &Walk::pixel, py::arg("d"))
      .def("tap", &Walk::tap, py::arg("t"));
}

void bind_output_tiles(py::module_& m) {
  py::class_<OutputTileAxis>(m, "OutputTileAxis")
      .def("__len__", &OutputTileAxis::size)
      .def("left_in_phase", &OutputTileAxis::left_in_phase, py::arg("p"))
      .def(
          "pixel",
          [](const OutputTileAxis& axis, int64_t p, int64_t i) {
            return axis.walk.pixel(axis.destination(p, i));
          },
          py::arg("p"), py::arg("i"))
      .def("source", &OutputTileAxis::source, py::arg("p"), py::arg("j"))
      .def(
          "sources_inside",
          [](const OutputTileAxis& axis, int64_t p, int64_t tiles) {
            return as_pair(axis.sources_inside(p, tiles));
          },
          py::arg("p"), py::arg("tiles"))
      .def("pixels_inside", &OutputTileAxis::pixels_inside, py::arg("p"), py::arg("tiles"))
      .def_property_readonly("pixel_step", &OutputTileAxis::pixel_step)
      .def_property_readonly("taps_are_reversed",
                             [](const OutputTileAxis& axis) { return axis.nearest_tap() > 0; });
}

void bind_axis(py::module_& m) {
  py::class_<Axis>(m, "Axis")
      .def(py::init(&checked_axis), py::arg("input_extent"), py::arg("kernel_size"),
           py::arg("stride") = 1, py::arg("padding") = std::pair<int64_t, int64_t>{0, 0},
           py::arg("dilation") = 1)
      .def_readonly("output_extent", &Axis::O)
      .def(
          "outputs_of_tap",
          [](const Axis& axis, int64_t k) {
            check_index("k", k, axis.K);
            return as_pair(axis.outputs_of_tap(k));
          },
          py::arg("k"))
      .def(
          "taps_of_output",
          [](const Axis& axis, int64_t o) {
            check_index("o", o, axis.O);
            return as_pair(axis.taps_of_output(o));
          },
          py::arg("o"))
      .def("meetings_of_input", &meetings_of_input, py::arg("i"))
      .def("outputs", &Axis::outputs)
      .def("phases", &Axis::phases)
      .def("inputs_of_phase", &phase_of, py::arg("first"))
      .def("is_in_pieces", &Axis::is_in_pieces)
      .def("output_tiles_of_outputs",
           [](const Axis& axis) { return checked_output_tiles(axis.outputs()); })
      .def(
          "output_tiles_of_phase",
          [](const Axis& axis, int64_t first) {
            return checked_output_tiles(phase_of(axis, first));
          },
          py::arg("first"));
}

}  // namespace

void bind_geometry(py::module_& m) {
  bind_walk(m);
  bind_output_tiles(m);
  bind_axis(m);
}

}  // namespace convgrad
