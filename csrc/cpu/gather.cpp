#include "cpu/gather.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "cpu/views.h"

namespace convgrad::cpu {
namespace {

// A product summed this often in one register is rounded off into a second sum: the error of a sum
// grows with its length, and F.conv2d's blocks are no longer than this.
constexpr int64_t kLongestSum = 1024;

// One gathering pass over one phase of its destination. The lanes are the destination's channels, M
// of them in each group; the sum runs over the source's channels, C in each group, and over the taps.
template <typename T>
struct Gather {
  Walk h, w;
  int64_t N, groups, M, C;
  Images<const T> source;
  Images<T> destination;
  Images<const T> weight;  // strides of (lane, channel, k_h, k_w)
  int64_t weight_of_group;
  const T* bias;
  int64_t bias_stride;

  int64_t taps() const { return h.T * w.T; }
};

// The order in which a panel holds its vectors. The innermost axis is the longer one of channels and
// horizontal taps, so that a run of the tile is long.
struct PanelOrder {
  int64_t c, t_h, t_w;  // from one channel or tap to the next, in elements
  bool channels_inside;

  template <typename T>
  static PanelOrder of(const Gather<T>& g, int lanes) {
    if (g.C >= g.w.T) return {lanes, g.w.T * g.C * lanes, g.C * lanes, true};
    return {g.taps() * lanes, g.w.T * lanes, lanes, false};
  }
};

// Pixels that lie in a line and meet the same taps: the rows of one tile.
struct Line {
  int64_t source, destination;  // of its first pixel and tap 0, from the image's beginning
  int64_t row_stride, destination_stride;
  int64_t rows;
  int64_t part;  // whose taps
};

// A rectangle of pixels that all meet the same taps, as runs of the tile.
struct Part {
  std::vector<Run> runs;
  int64_t length, a_step, b_step;
};

struct Segment {
  Range pixels, taps;
};

// Cuts an axis where the set of taps changes: borders, and the interior where all taps meet.
std::vector<Segment> segments_of(const Walk& walk) {
  std::vector<Segment> segments;
  for (int64_t d : Range{0, walk.D}) {
    const Range taps = walk.taps_of(d);
    const bool same = !segments.empty() && segments.back().taps.lo == taps.lo &&
                      segments.back().taps.hi == taps.hi;
    if (same)
      segments.back().pixels.hi = d + 1;
    else
      segments.push_back({{d, d + 1}, taps});
  }
  return segments;
}

template <typename T>
Part part_of(const Gather<T>& g, const PanelOrder& order, Range taps_h, Range taps_w) {
  Part part;
  const auto a_of = [&](int64_t t_h, int64_t t_w) {
    return t_h * g.h.tap_step * g.source.h + t_w * g.w.tap_step * g.source.w;
  };
  const auto add = [&](int64_t c, int64_t t_h, int64_t t_w) {
    part.runs.push_back(
        {c * g.source.c + a_of(t_h, t_w), c * order.c + t_h * order.t_h + t_w * order.t_w});
  };
  if (order.channels_inside) {
    part.length = g.C, part.a_step = g.source.c, part.b_step = order.c;
    for (int64_t t_h : taps_h)
      for (int64_t t_w : taps_w) add(0, t_h, t_w);
  } else {
    part.length = taps_w.size(), part.a_step = g.w.tap_step * g.source.w, part.b_step = order.t_w;
    for (int64_t c : Range{0, g.C})
      for (int64_t t_h : taps_h) add(c, t_h, taps_w.lo);
  }
  return part;
}

// All lines of an image, each no longer than a tile has rows.
template <typename T>
struct Schedule {
  std::vector<Part> parts;
  std::vector<Line> lines;

  Schedule(const Gather<T>& g, const PanelOrder& order, int64_t max_rows) {
    for (const Segment& h : segments_of(g.h))
      for (const Segment& w : segments_of(g.w)) {
        parts.push_back(part_of(g, order, h.taps, w.taps));
        add_rectangle(g, h.pixels, w.pixels, max_rows);
      }
  }

  // Along the longer side; both sides in one where the rectangle lies in memory without a gap.
  void add_rectangle(const Gather<T>& g, Range ys, Range xs, int64_t max_rows) {
    const int64_t down = g.h.step * g.source.h, right = g.w.step * g.source.w;
    const int64_t to_down = g.h.pixel_step * g.destination.h;
    const int64_t to_right = g.w.pixel_step * g.destination.w;
    Line line{g.h.source(ys.lo, 0) * g.source.h + g.w.source(xs.lo, 0) * g.source.w,
              g.h.pixel(ys.lo) * g.destination.h + g.w.pixel(xs.lo) * g.destination.w,
              right,
              to_right,
              xs.size(),
              static_cast<int64_t>(parts.size()) - 1};
    int64_t count = ys.size(), next = down, to_next = to_down;
    if (down == right * xs.size() && to_down == to_right * xs.size()) {
      line.rows *= ys.size(), count = 1;
    } else if (ys.size() > xs.size()) {
      line.row_stride = down, line.destination_stride = to_down, line.rows = ys.size();
      count = xs.size(), next = right, to_next = to_right;
    }
    for (int64_t i = 0; i < count; ++i, line.source += next, line.destination += to_next)
      add_cut(line, max_rows);
  }

  void add_cut(Line line, int64_t max_rows) {
    const Blocks blocks = Blocks::covering(line.rows, max_rows);
    for (int64_t left = line.rows; left > 0; left -= line.rows) {
      line.rows = std::min(blocks.size, left);
      lines.push_back(line);
      line.source += line.rows * line.row_stride;
      line.destination += line.rows * line.destination_stride;
    }
  }
};

// The weight of every group in vectors of lanes, padded with zero lanes.
template <typename T>
at::Tensor pack_weight(const Tiles<T>& tiles, const Gather<T>& g, const PanelOrder& order) {
  const int64_t panels = (g.M + tiles.lanes - 1) / tiles.lanes;
  const int64_t panel_size = g.C * g.taps() * tiles.lanes;
  at::Tensor packed =
      at::empty({g.groups * panels * panel_size + tiles.lanes}, c10::CppTypeToScalarType<T>::value);
  T* vectors = packed.mutable_data_ptr<T>();
  at::parallel_for(
      0, g.groups * panels * g.C, 1 + (1 << 15) / (1 + g.taps() * tiles.lanes),
      [&](int64_t begin, int64_t end) {
        for (int64_t i : Range{begin, end}) {
          const int64_t panel = i / g.C, c = i % g.C;
          const int64_t group = panel / panels, lane = panel % panels * tiles.lanes;
          const T* from =
              g.weight.data + group * g.weight_of_group + lane * g.weight.n + c * g.weight.c;
          for (int64_t t_h : Range{0, g.h.T}) {
            tiles.pack({vectors + panel * panel_size + c * order.c + t_h * order.t_h, order.t_w,
                        const_cast<T*>(from) + g.h.tap(t_h) * g.weight.h + g.w.tap(0) * g.weight.w,
                        g.w.weight_step * g.weight.w, g.weight.n, g.w.T,
                        std::min<int64_t>(tiles.lanes, g.M - lane)});
          }
        }
      });
  return packed;
}

// The sums of one tile over the whole reduction, cut into stretches of kLongestSum.
template <typename T>
void sum_line(TileArgs<T> args, const Part& part, typename Tiles<T>::TileFn tile) {
  const T *a = args.a, *b = args.b;
  const int64_t length = std::min(part.length, kLongestSum);
  const int64_t runs = std::max<int64_t>(1, kLongestSum / std::max<int64_t>(1, length));
  args.a_step = part.a_step, args.b_step = part.b_step, args.fresh = true;
  const int64_t run_count = part.runs.size();
  int64_t i = 0;
  do {
    args.length = std::min(length, part.length - i);
    args.a = a + i * part.a_step, args.b = b + i * part.b_step;
    int64_t run = 0;
    do {
      args.runs = part.runs.data() + run, args.run_count = std::min(runs, run_count - run);
      tile(args);
      args.fresh = false;
    } while ((run += runs) < run_count);
  } while ((i += length) < part.length);
}

template <typename T>
class GatherLoops {
 public:
  GatherLoops(const Tiles<T>& tiles, const Gather<T>& g)
      : tiles(tiles),
        g(g),
        order(PanelOrder::of(g, tiles.lanes)),
        panels((g.M + tiles.lanes - 1) / tiles.lanes),
        blocks(Blocks::covering(panels, vecs_for(g))),
        schedule(g, order, tiles.max_rows(blocks.size)),
        packed(pack_weight(tiles, g, order)) {}

  void run() const {
    const int64_t lines = schedule.lines.size();
    const int64_t work = g.C * g.taps() * tiles.lanes * blocks.size * 8;
    const int64_t grain = 1 + (1 << 17) / (1 + work);
    at::parallel_for(
        0, g.N * g.groups * blocks.count * lines, grain, [&](int64_t begin, int64_t end) {
          for (int64_t i : Range{begin, end}) {
            const int64_t block = i / lines % blocks.count,
                          group = i / lines / blocks.count % g.groups;
            run_line(i / lines / blocks.count / g.groups, group, block, schedule.lines[i % lines]);
          }
        });
  }

 private:
  // Short lines leave registers for more vectors.
  static int64_t vecs_for(const Gather<T>& g) {
    const int64_t longest = std::max(g.h.D, g.w.D);
    return longest <= 7 ? 4 : longest <= 9 ? 3 : 2;
  }

  void run_line(int64_t n, int64_t group, int64_t block, const Line& line) const {
    const Part& part = schedule.parts[line.part];
    const int64_t panel = block * blocks.size, vecs = std::min(blocks.size, panels - panel);
    const int64_t panel_size = g.C * g.taps() * tiles.lanes;
    alignas(64) T acc[kMaxRows * kMaxVecs * 64 / sizeof(T)];
    TileArgs<T> args{};
    args.a = g.source.at(n, group * g.C) + line.source;
    args.row_stride = line.row_stride;
    args.b = packed.const_data_ptr<T>() + (group * panels + panel) * panel_size;
    args.panel_stride = panel_size;
    args.acc = acc;
    const bool unit = line.row_stride == 1;
    sum_line(args, part, (unit ? tiles.tile_of_unit_stride : tiles.tile)[vecs][line.rows]);
    store_line(n, group, panel, vecs, line, acc);
  }

  void store_line(int64_t n, int64_t group, int64_t panel, int64_t vecs, const Line& line,
                  T* acc) const {
    for (int64_t v : Range{0, vecs}) {
      const int64_t m = (panel + v) * tiles.lanes, lanes = std::min<int64_t>(tiles.lanes, g.M - m);
      const int64_t channel = group * g.M + m;
      if (g.bias)
        for (int64_t row : Range{0, line.rows})
          for (int64_t lane : Range{0, lanes})
            acc[(row * vecs + v) * tiles.lanes + lane] += g.bias[(channel + lane) * g.bias_stride];
      tiles.unpack({acc + v * tiles.lanes, vecs * tiles.lanes,
                    g.destination.at(n, channel) + line.destination, line.destination_stride,
                    g.destination.c, line.rows, lanes});
    }
  }

  const Tiles<T>& tiles;
  const Gather<T>& g;
  PanelOrder order;
  int64_t panels;
  Blocks blocks;
  Schedule<T> schedule;
  at::Tensor packed;
};

}  // namespace

template <typename T>
void forward(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& input,
             const at::Tensor& weight, const std::optional<at::Tensor>& bias, at::Tensor& output) {
  const int64_t M = shape.C_out_per_group();
  const Gather<T> g{shape.h.outputs(),
                    shape.w.outputs(),
                    shape.N,
                    shape.groups,
                    M,
                    shape.C_in_per_group(),
                    images_of<T>(input),
                    images_of<T>(output),
                    images_of<T>(weight),
                    M * weight.stride(0),
                    bias ? bias->const_data_ptr<T>() : nullptr,
                    bias ? bias->stride(0) : 0};
  GatherLoops<T>(tiles, g).run();
}

template <typename T>
void grad_input(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& weight,
                const at::Tensor& grad_output, at::Tensor& grad_input) {
  const int64_t C = shape.C_out_per_group();
  Images<const T> flipped = images_of<T>(weight);
  std::swap(flipped.n, flipped.c);  // the lanes are the input's channels now
  for (int64_t h : Range{0, shape.h.phases()})
    for (int64_t w : Range{0, shape.w.phases()}) {
      const Gather<T> g{shape.h.inputs_of_phase(h),
                        shape.w.inputs_of_phase(w),
                        shape.N,
                        shape.groups,
                        shape.C_in_per_group(),
                        C,
                        images_of<T>(grad_output),
                        images_of<T>(grad_input),
                        flipped,
                        C * weight.stride(0),
                        nullptr,
                        0};
      GatherLoops<T>(tiles, g).run();
    }
}

template void forward(const Tiles<float>&, const ConvShape&, const at::Tensor&, const at::Tensor&,
                      const std::optional<at::Tensor>&, at::Tensor&);
template void forward(const Tiles<double>&, const ConvShape&, const at::Tensor&, const at::Tensor&,
                      const std::optional<at::Tensor>&, at::Tensor&);
template void grad_input(const Tiles<float>&, const ConvShape&, const at::Tensor&,
                         const at::Tensor&, at::Tensor&);
template void grad_input(const Tiles<double>&, const ConvShape&, const at::Tensor&,
                         const at::Tensor&, at::Tensor&);

}  // namespace convgrad::cpu
