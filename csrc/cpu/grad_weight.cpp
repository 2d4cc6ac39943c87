#include "cpu/grad_weight.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "cpu/views.h"

namespace convgrad::cpu {
namespace {

constexpr int64_t kStripPixels = 512;      // of grad_output, packed at a time
constexpr int64_t kSumsBytes = 512 << 10;  // a thread's second-level sums
constexpr int64_t kWantedItems = 8;        // to share out; a constant, so that the result is too

// A thread's item: a block of output channels, a block of input channels and a stretch of the images'
// rows. It keeps the sums of all taps while it walks the pixels strip by strip.
template <typename T>
class GradWeightLoops {
 public:
  GradWeightLoops(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& input,
                  const at::Tensor& grad_output, at::Tensor& grad_weight)
      : tiles(tiles),
        shape(shape),
        input(images_of<T>(input)),
        grad_output(images_of<T>(grad_output)),
        grad_weight(images_of<T>(grad_weight)),
        panels((shape.C_out_per_group() + tiles.lanes - 1) / tiles.lanes),
        outs(Blocks::covering(panels, shape.C_in_per_group() <= 7 ? 4 : 2)),
        tile_rows(Blocks::covering(shape.C_in_per_group(), tiles.max_rows(outs.size)).size),
        ins(input_blocks()),
        rows_per_strip(std::max<int64_t>(1, kStripPixels / shape.w.O)),
        strips(std::max<int64_t>(1, (shape.N * shape.h.O + rows_per_strip - 1) / rows_per_strip)),
        chunks(Blocks::covering(strips, strips_per_chunk())) {}

  void run() {
    const int64_t items = shape.groups * outs.count * ins.count;
    const int64_t size = items * item_size();
    at::Tensor sums = at::empty({chunks.count * size + 64}, c10::CppTypeToScalarType<T>::value);
    T* all = sums.template mutable_data_ptr<T>();
    const int64_t work = item_size() * chunks.size * pixels_per_strip();
    at::parallel_for(0, items * chunks.count, grain_of(work), [&](int64_t begin, int64_t end) {
      std::vector<T> strip(kMaxVecs * (pixels_per_strip() + 1) * tiles.lanes);
      for (int64_t i : Range{begin, end})
        sum_item(i / chunks.count, i % chunks.count, strip.data(),
                 all + (i % chunks.count) * size + i / chunks.count * item_size());
    });
    at::parallel_for(0, items, grain_of(8 * item_size() * chunks.count),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i : Range{begin, end})
                         store_item(i, all + i * item_size(), size);
                     });
  }

 private:
  int64_t pixels_per_strip() const { return rows_per_strip * shape.w.O; }
  int64_t vector_size() const { return outs.size * tiles.lanes; }
  int64_t item_size() const { return shape.taps() * ins.size * vector_size(); }

  // Input channels in blocks of whole tiles whose sums fit, and in several blocks if that is what it
  // takes to have enough items.
  Blocks input_blocks() const {
    const int64_t C = shape.C_in_per_group(), tile_count = (C + tile_rows - 1) / tile_rows;
    const int64_t tile_bytes = tile_rows * shape.taps() * vector_size() * sizeof(T);
    const int64_t fitting = std::max<int64_t>(1, kSumsBytes / tile_bytes);
    const int64_t wanted =
        (kWantedItems + shape.groups * outs.count - 1) / (shape.groups * outs.count);
    const int64_t per_block = std::min(fitting, (tile_count + wanted - 1) / wanted);
    const int64_t size = per_block * tile_rows;
    return {(C + size - 1) / size, size};
  }

  // Where channels make too few items, the pixels are split too, by the shape alone.
  int64_t strips_per_chunk() const {
    const int64_t items = shape.groups * outs.count * ins.count;
    const int64_t wanted = (kWantedItems + items - 1) / items;
    return (strips + wanted - 1) / wanted;
  }

  void sum_item(int64_t item, int64_t chunk, T* strip, T* sums) const {
    const int64_t group = item / ins.count / outs.count,
                  panel = item / ins.count % outs.count * outs.size;
    const int64_t c_lo = item % ins.count * ins.size;
    const Range channels{c_lo, std::min(c_lo + ins.size, shape.C_in_per_group())};
    std::fill_n(sums, item_size(), T(0));
    const int64_t rows = shape.N * shape.h.O;
    const int64_t first = chunk * chunks.size, last = std::min(strips, first + chunks.size);
    for (int64_t s : Range{first, std::max(first, last)}) {
      const Range strip_rows{s * rows_per_strip, std::min(rows, (s + 1) * rows_per_strip)};
      pack_strip(group, panel, strip_rows, strip);
      for (int64_t k_h : Range{0, shape.h.K})
        for (int64_t k_w : Range{0, shape.w.K})
          add_tap(group, panel, channels, strip_rows, k_h, k_w, strip,
                  sums + (k_h * shape.w.K + k_w) * vector_size());
    }
  }

  int64_t vecs_of(int64_t panel) const { return std::min(outs.size, panels - panel); }

  void pack_strip(int64_t group, int64_t panel, Range rows, T* strip) const {
    const int64_t C_out = shape.C_out_per_group();
    for (int64_t v : Range{0, vecs_of(panel)}) {
      const int64_t c_out = (panel + v) * tiles.lanes;
      for (int64_t row : rows) {
        const int64_t n = row / shape.h.O, h_out = row % shape.h.O;
        T* from = const_cast<T*>(grad_output.at(n, group * C_out + c_out)) + h_out * grad_output.h;
        tiles.pack({strip + (v * pixels_per_strip() + (row - rows.lo) * shape.w.O) * tiles.lanes,
                    tiles.lanes, from, grad_output.w, grad_output.c, shape.w.O,
                    std::min<int64_t>(tiles.lanes, C_out - c_out)});
      }
    }
  }

  // The part of a strip that one tap sees, as runs along w_out.
  void add_tap(int64_t group, int64_t panel, Range channels, Range rows, int64_t k_h, int64_t k_w,
               const T* strip, T* sums) const {
    const Range outputs_h = shape.h.outputs_of_tap(k_h), outputs_w = shape.w.outputs_of_tap(k_w);
    std::vector<Run> runs;
    for (int64_t row : rows) {
      const int64_t n = row / shape.h.O, h_out = row % shape.h.O;
      if (h_out < outputs_h.lo || h_out >= outputs_h.hi) continue;
      runs.push_back({n * input.n + shape.h.input(h_out, k_h) * input.h +
                          shape.w.input(outputs_w.lo, k_w) * input.w,
                      ((row - rows.lo) * shape.w.O + outputs_w.lo) * tiles.lanes});
    }
    if (runs.empty() || outputs_w.size() == 0) return;
    TileArgs<T> args{};
    args.row_stride = input.c, args.b = strip, args.panel_stride = pixels_per_strip() * tiles.lanes;
    args.runs = runs.data(), args.run_count = runs.size(), args.length = outputs_w.size();
    args.a_step = shape.w.outputs().step * input.w, args.b_step = tiles.lanes;
    args.acc_stride = shape.taps() * vector_size();
    const int64_t vecs = vecs_of(panel);
    for (int64_t c = channels.lo; c < channels.hi; c += tile_rows) {
      const int64_t tile_height = std::min(tile_rows, channels.hi - c);
      args.a = input.at(0, group * shape.C_in_per_group() + c);
      args.acc = sums + (c - channels.lo) * args.acc_stride;
      (input.c == 1 ? tiles.tile_of_unit_stride : tiles.tile)[vecs][tile_height](args);
    }
  }

  // Adds the chunks in their order and turns the sums into (c_out, c_in, k_h, k_w).
  void store_item(int64_t item, T* sums, int64_t chunk_size) const {
    for (int64_t chunk : Range{1, std::max<int64_t>(1, chunks.count)})
      for (int64_t i : Range{0, item_size()}) sums[i] += sums[chunk * chunk_size + i];
    const int64_t group = item / ins.count / outs.count,
                  panel = item / ins.count % outs.count * outs.size;
    const int64_t c_lo = item % ins.count * ins.size, C_out = shape.C_out_per_group();
    const int64_t rows = std::min(ins.size, shape.C_in_per_group() - c_lo), vecs = vecs_of(panel);
    for (int64_t v : Range{0, vecs}) {
      const int64_t c_out = (panel + v) * tiles.lanes;
      T* vectors = sums + v * tiles.lanes;
      T* to = grad_weight.at(group * C_out + c_out, c_lo);
      const int64_t lanes = std::min<int64_t>(tiles.lanes, C_out - c_out);
      if (grad_weight.c == shape.taps() && grad_weight.h == shape.w.K && grad_weight.w == 1) {
        tiles.unpack({vectors, vector_size(), to, 1, grad_weight.n, rows * shape.taps(), lanes});
        continue;
      }
      for (int64_t tap : Range{0, shape.taps()})
        tiles.unpack({vectors + tap * vector_size(), shape.taps() * vector_size(),
                      to + tap / shape.w.K * grad_weight.h + tap % shape.w.K * grad_weight.w,
                      grad_weight.c, grad_weight.n, rows, lanes});
    }
  }

  const Tiles<T>& tiles;
  const ConvShape& shape;
  Images<const T> input, grad_output;
  Images<T> grad_weight;
  int64_t panels;
  Blocks outs;  // of panels
  int64_t tile_rows;
  Blocks ins;  // of input channels
  int64_t rows_per_strip, strips;
  Blocks chunks;  // of strips
};

}  // namespace

template <typename T>
void grad_weight(const Tiles<T>& tiles, const ConvShape& shape, const at::Tensor& input,
                 const at::Tensor& grad_output, at::Tensor& grad_weight) {
  GradWeightLoops<T>(tiles, shape, input, grad_output, grad_weight).run();
}

template void grad_weight(const Tiles<float>&, const ConvShape&, const at::Tensor&,
                          const at::Tensor&, at::Tensor&);
template void grad_weight(const Tiles<double>&, const ConvShape&, const at::Tensor&,
                          const at::Tensor&, at::Tensor&);

}  // namespace convgrad::cpu
