// All that an instruction set provides, written once in terms of a vector's width. Each instruction set
// includes this file in a translation unit of its own, behind a target region; anonymous namespaces keep
// the linker from merging the builds.
#include "cpu/kernels/tile.inl"
#include "cpu/kernels/transforms.inl"

namespace convgrad::cpu {
namespace {

template <typename T, int BYTES, int ACCS, int VECS, int ROWS>
void enter_rows(Tiles<T>& tiles) {
  if constexpr (ROWS >= 1) {
    if constexpr (ROWS * VECS <= ACCS) {
      tiles.tile[VECS][ROWS] = tile<T, BYTES, VECS, ROWS, false>;
      tiles.tile_of_unit_stride[VECS][ROWS] = tile<T, BYTES, VECS, ROWS, true>;
    }
    enter_rows<T, BYTES, ACCS, VECS, ROWS - 1>(tiles);
  }
}

// All tiles of vectors of BYTES whose sums fit into ACCS registers.
template <typename T, int BYTES, int ACCS>
Tiles<T> make_tiles() {
  constexpr int LANES = BYTES / sizeof(T);
  Tiles<T> tiles{};
  tiles.lanes = LANES;
  tiles.max_accs = ACCS;
  tiles.pack = pack<T, LANES>;
  tiles.unpack = unpack<T, LANES>;
  enter_transforms<T, LANES>(tiles);
  enter_rows<T, BYTES, ACCS, 1, kMaxRows>(tiles);
  enter_rows<T, BYTES, ACCS, 2, kMaxRows>(tiles);
  enter_rows<T, BYTES, ACCS, 3, kMaxRows>(tiles);
  enter_rows<T, BYTES, ACCS, 4, kMaxRows>(tiles);
  return tiles;
}

}  // namespace
}  // namespace convgrad::cpu
