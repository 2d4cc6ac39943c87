"""No register tile keeps a vector on the stack while it adds: read from the built module's code.

A tile is instantiated for each width and each number of rows. A sum that the compiler spills costs
a store and a load for each multiply-add, and no other test would see it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

import pytest
from disassembly import NEEDS_OBJDUMP, SYMBOL, listing

pytestmark = NEEDS_OBJDUMP

TILE = re.compile(
    r"::(Numbers|Pairs), (float|double), (\d+), \(convgrad::cpu::TileKind\)(\d), (\d+), (\d+)>"
)
KINDS = range(3)
SUMS = {16: 12, 32: 12, 64: 28}  # that registers hold, by bytes of a vector
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
JUMP = re.compile(r"^([0-9a-f]+)\b")
MULTIPLIES = re.compile(r"^v?(fn?madd|mul[ps][sd]|dpbf16ps)")
VECTOR = re.compile(r"%[xyz]mm\d")
FRAME = "%rsp,%rbp"  # moved where %rbp is the base of the stack, and no other register

Instruction = tuple[int, str, str]  # address, mnemonic, operands


def tiles_in(listing: str) -> Iterator[tuple[str, list[Instruction]]]:
    """The code of each tile in a listing of objdump."""
    name, code = None, []
    for line in listing.splitlines():
        if symbol := SYMBOL.match(line):
            if name:
                yield name, code
            found = TILE.search(symbol[1])
            name, code = (found[0] if found else None), []
        elif name and (instruction := LINE.match(line)):
            code.append((int(instruction[1], 16), instruction[2], instruction[3]))
    if name:
        yield name, code


def reduction_loops(code: list[Instruction]) -> list[list[Instruction]]:
    """The innermost loops that multiply: from the target of a jump back to the jump."""
    places = {address: i for i, (address, _, _) in enumerate(code)}
    loops = []
    for i, (address, mnemonic, operands) in enumerate(code):
        target = JUMP.match(operands) if mnemonic.startswith("j") else None
        if target and int(target[1], 16) <= address and int(target[1], 16) in places:
            loops.append((places[int(target[1], 16)], i))
    innermost = [loop for loop in loops if not any(is_inside(other, loop) for other in loops)]
    bodies = [code[lo : hi + 1] for lo, hi in innermost]
    return [body for body in bodies if any(MULTIPLIES.match(m) for _, m, _ in body)]


def is_inside(loop: tuple[int, int], other: tuple[int, int]) -> bool:
    return loop != other and other[0] <= loop[0] and loop[1] <= other[1]


def spills(code: list[Instruction]) -> list[str]:
    """The instructions of the reduction that store a vector on the stack or read one from there."""
    has_frame = any(operands == FRAME for _, _, operands in code)
    stack = re.compile(r"\(%r[sb]p[,)]" if has_frame else r"\(%rsp[,)]")
    return [
        f"{mnemonic} {operands}"
        for body in reduction_loops(code)
        for _, mnemonic, operands in body
        if VECTOR.search(operands) and stack.search(operands)
    ]


@pytest.fixture(scope="module")
def tiles() -> dict[str, list[Instruction]]:
    """By template arguments; the builds of several instruction sets have different widths."""
    return dict(tiles_in(listing()))


def test_every_tile_is_found(tiles: dict[str, list[Instruction]]) -> None:
    """As many as the registers allow: otherwise the test below would look at nothing."""
    found = defaultdict(set)
    for name in tiles:
        step, element, size, kind, vecs, rows = TILE.search(name).groups()
        found[step, element, int(size), int(kind)].add((int(vecs), int(rows)))
    builds = [("Numbers", element, size) for element in ("float", "double") for size in SUMS]
    for step, element, size in [*builds, ("Pairs", "float", 64)]:
        wanted = {(v, r) for v in range(1, 5) for r in range(1, min(28, SUMS[size] // v) + 1)}
        for kind in KINDS:
            assert found[step, element, size, kind] == wanted


# 28 sums and four vectors of B are all 32 registers: the compiler keeps one of them on the stack.
FULL = {
    f"::{step}, {element}, 64, (convgrad::cpu::TileKind){kind}, 4, 7>"
    for step, element in (("Numbers", "float"), ("Numbers", "double"), ("Pairs", "float"))
    for kind in KINDS
}


def test_no_tile_keeps_a_vector_on_the_stack(tiles: dict[str, list[Instruction]]) -> None:
    stores = {name: spills(code) for name, code in tiles.items()}
    assert {name for name in stores if stores[name]} <= FULL
    assert all(len(stores[name]) <= 4 for name in FULL)


def test_every_tile_has_a_loop_that_multiplies(tiles: dict[str, list[Instruction]]) -> None:
    """A tile of one row has no row stride: the compiler may jump to the other tile of one row."""
    without = [name for name, code in tiles.items() if not reduction_loops(code)]
    assert all(name.endswith(", 1>") and tiles[name][0][1] == "jmp" for name in without)


SPILLING = """
0000000000001000 <tile<cpu::Numbers, float, 32, (convgrad::cpu::TileKind)1, 1, 8>(x)>:
    1000: xor    %eax,%eax
    1002: vmovups (%rdi),%ymm0
    1006: vfmadd231ps (%rsi),%ymm0,%ymm1
    100b: vmovaps %ymm1,0x20(%rsp)
    100e: vfmadd231ps 0x60(%rsp),%ymm0,%ymm2
    1011: dec    %rcx
    1014: jne    1002 <tile+0x2>
    1016: vmovaps %ymm1,0x40(%rsp)
    101c: ret
"""


def test_a_spill_is_recognised() -> None:
    """A store and a read inside of the loop, and no store behind it."""
    ((name, code),) = tiles_in(SPILLING)
    assert name == "::Numbers, float, 32, (convgrad::cpu::TileKind)1, 1, 8>"
    assert spills(code) == ["vmovaps %ymm1,0x20(%rsp)", "vfmadd231ps 0x60(%rsp),%ymm0,%ymm2"]
