// The table of an instruction set, written once in terms of a vector's width. Each instruction set includes this
// file in a translation unit of its own, inside its target region; anonymous namespaces keep the linker from
// merging the builds.
#include "cpu/kernels/tile.inl"
// All after tile.inl.
#include "cpu/kernels/copies.inl"
#include "cpu/kernels/slide.inl"
#include "cpu/kernels/transforms.inl"

namespace convgrad::cpu {
namespace {

template <typename Step, int BYTES, int ACCS, int VECS, int ROWS, typename Sum>
void enter_rows(SumTiles<Sum>& tiles) {
  if constexpr (ROWS >= 1) {
    if constexpr (ROWS * VECS <= ACCS) {
      tiles.tile[kAnyTile][VECS][ROWS] = tile<Step, Sum, BYTES, kAnyTile, VECS, ROWS>;
      tiles.tile[kRowsAdjacent][VECS][ROWS] = tile<Step, Sum, BYTES, kRowsAdjacent, VECS, ROWS>;
      tiles.tile[kStepsApart][VECS][ROWS] = tile<Step, Sum, BYTES, kStepsApart, VECS, ROWS>;
    }
    enter_rows<Step, BYTES, ACCS, VECS, ROWS - 1>(tiles);
  }
}

// All tiles of vectors of BYTES whose sums fit into ACCS registers.
template <typename Step, int BYTES, int ACCS, typename Sum>
void enter_tiles(SumTiles<Sum>& tiles) {
  enter_rows<Step, BYTES, ACCS, 1, kMaxRows>(tiles);
  enter_rows<Step, BYTES, ACCS, 2, kMaxRows>(tiles);
  enter_rows<Step, BYTES, ACCS, 3, kMaxRows>(tiles);
  enter_rows<Step, BYTES, ACCS, 4, kMaxRows>(tiles);
}

// The table of one type of sums.
template <int BYTES, int ACCS, typename Sum>
SumTiles<Sum> make_sums(const char* isa) {
  constexpr int LANES = BYTES / sizeof(Sum);
  SumTiles<Sum> tiles{};
  static_cast<TileShape&>(tiles) = {.isa = isa,
                                    .lanes = LANES,
                                    .max_accs = ACCS,
                                    .sum_bytes = sizeof(Sum),
                                    .in_place = true,
                                    .pairs = false};
  enter_loads<Sum, LANES>(tiles);
  enter_transforms<Sum, LANES>(tiles);
  enter_slides<Sum, BYTES, ACCS, kMaxSlideRows, kMaxSlideTaps>(tiles);
  enter_tiles<Numbers, BYTES, ACCS>(tiles);
  return tiles;
}

// The same with results of another type.
template <typename Stored, int BYTES, typename Sum>
Tiles<Stored, Sum> with_results(const SumTiles<Sum>& sums) {
  Tiles<Stored, Sum> tiles{};
  static_cast<SumTiles<Sum>&>(tiles) = sums;
  tiles.in_place = std::is_same_v<Stored, Sum>;
  enter_stores<BYTES / sizeof(Sum)>(tiles);
  return tiles;
}

template <int BYTES, int ACCS, typename Stored, typename Sum>
Tiles<Stored, Sum> make_tiles(const char* isa) {
  static const SumTiles<Sum> sums = make_sums<BYTES, ACCS, Sum>(isa);
  return with_results<Stored, BYTES>(sums);
}

}  // namespace
}  // namespace convgrad::cpu
