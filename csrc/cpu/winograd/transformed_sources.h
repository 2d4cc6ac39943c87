// The sources of output tiles, transformed.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/common/blocks.h"
#include "cpu/common/views.h"
#include "cpu/kernels/tiles.h"
#include "cpu/winograd/output_tile_grid.h"

namespace convgrad::cpu {

// The sources of a row of output tiles: four rows of pixels, some of which can be in the padding.
struct SourceRows {
  static constexpr int64_t kPadding = -1;

  int64_t rows[4];    // the first pixel inside the image, in channel 0, in elements; or kPadding
  Range inside;       // the image, of the 2*count + 2 pixels of a row
  int64_t count, at;  // output tiles; output tiles before them
  bool below_last;    // whether the output tiles are right under those of the row before
};

// Sizes of the rows that are copied before they are transformed, in elements.
struct RowBuffer {
  int64_t half;  // the even or the odd columns of a row

  static RowBuffer of(const OutputTileGrid& grid, int64_t tiles, int64_t lanes) {
    return {(Blocks::covering(grid.longest_row(tiles) + 1, lanes).count + 1) * lanes};
  }
  // Four rows, and one of zeros.
  int64_t size() const { return 5 * (2 * half); }
};

// The rows of one channel are copied first, with zeros for the padding and with even columns apart from odd ones.
template <typename Sum>
class TransformedSources {
 public:
  TransformedSources(const SumTiles<Sum>& tiles, const OutputTileGrid& grid,
                     const Images<const Sum>& source, const RowBuffer& buffer)
      : tiles(tiles), grid(grid), source(source), half(buffer.half) {}

  std::vector<SourceRows> rows_of(const std::vector<TileRow>& tile_rows) const {
    std::vector<SourceRows> found;
    for (const TileRow& row : tile_rows) {
      const Range inside = grid.w.sources_inside(row.x, row.count);
      SourceRows next{{}, inside, row.count, row.at, row.below_last};
      for (int64_t j : Range{0, 4}) {
        const int64_t y = grid.h.source(row.y, j);
        const bool padding = y < 0 || y >= grid.h.walk.S || inside.size() == 0;
        next.rows[j] =
            padding ? SourceRows::kPadding
                    : row.n * source.n + y * source.h + grid.w.source(row.x, inside.lo) * source.w;
      }
      found.push_back(next);
    }
    return found;
  }

  // Number i of tile p is stored at transformed[i*stride + p]. Up to a vector after the last tile is overwritten.
  void make(const std::vector<SourceRows>& tile_rows, int64_t channel, Sum* transformed,
            int64_t stride, Sum* buffer) const {
    Sum* const zeros = buffer + 4 * (2 * half);
    std::fill_n(zeros, 2 * half, Sum(0));
    uint64_t top = 0;
    for (const SourceRows& rows : tile_rows) {
      SourceArgs<Sum> args{{}, half, transformed + rows.at, stride, rows.count};
      // The two lower rows of the tiles above are the two upper ones of these.
      if (rows.below_last) top += 2;
      for (uint64_t j = 0; j < 4; ++j) {
        Sum* const row = buffer + (top + j) % 4 * 2 * half;
        const bool padding = rows.rows[j] == SourceRows::kPadding;
        args.rows[j] = padding ? zeros : row;
        const bool there = rows.below_last && j < 2;
        if (!padding && !there) load(rows, source.data + rows.rows[j] + channel * source.c, row);
      }
      tiles.transform_sources(args);
    }
  }

 private:
  void load(const SourceRows& rows, const Sum* from, Sum* to) const {
    const auto place = [&](uint64_t i) { return to + i % 2 * half + i / 2; };
    for (int64_t i : Range{0, rows.inside.lo}) *place(i) = Sum(0);
    for (int64_t i : Range{rows.inside.hi, 2 * rows.count + 2}) *place(i) = Sum(0);
    tiles.split_rows({.from = from,
                      .step = grid.w.distance * source.w,
                      .even = place(rows.inside.lo),
                      .odd = place(rows.inside.lo + 1),
                      .count = rows.inside.size()});
  }

  const SumTiles<Sum>& tiles;
  const OutputTileGrid& grid;
  const Images<const Sum>& source;
  int64_t half;
};

}  // namespace convgrad::cpu
