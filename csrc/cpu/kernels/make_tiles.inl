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

template <typename Step, int BYTES, int ACCS, int VECS, int ROWS, typename Stored, typename Sum>
void enter_rows(Tiles<Stored, Sum>& tiles) {
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
template <typename Step, int BYTES, int ACCS, typename Stored, typename Sum>
void enter_tiles(Tiles<Stored, Sum>& tiles) {
  enter_rows<Step, BYTES, ACCS, 1, kMaxRows>(tiles);
  enter_rows<Step, BYTES, ACCS, 2, kMaxRows>(tiles);
  enter_rows<Step, BYTES, ACCS, 3, kMaxRows>(tiles);
  enter_rows<Step, BYTES, ACCS, 4, kMaxRows>(tiles);
}

// The table of a pair of types.
template <int BYTES, int ACCS, typename Stored, typename Sum>
Tiles<Stored, Sum> make_tiles(const char* isa) {
  constexpr int LANES = BYTES / sizeof(Sum);
  Tiles<Stored, Sum> tiles{};
  static_cast<TileShape&>(tiles) = {.isa = isa,
                                    .lanes = LANES,
                                    .max_accs = ACCS,
                                    .stored_bytes = sizeof(Stored),
                                    .sum_bytes = sizeof(Sum),
                                    .in_place = std::is_same_v<Stored, Sum>,
                                    .pairs = false};
  enter_copies<Stored, Sum, LANES>(tiles);
  enter_transforms<Sum, LANES>(tiles);
  enter_slides<Sum, BYTES, ACCS, kMaxSlideRows, kMaxSlideTaps>(tiles);
  enter_tiles<Numbers, BYTES, ACCS>(tiles);
  return tiles;
}

}  // namespace
}  // namespace convgrad::cpu
