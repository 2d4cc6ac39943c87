"""Prefetches are in the code of the built module.

A compiler may take a function that only prefetches for one without effects, and leave its calls
out. Results stay right, and only timing would show it.
"""

from __future__ import annotations

import pytest
from disassembly import NEEDS_OBJDUMP, SYMBOL, listing

pytestmark = NEEDS_OBJDUMP

# The functions that the compiler makes of the loops that ask for memory.
LOOPS = {
    "packed_weights": "WeightPacking<float>::run",
    "transformed_weights": "TransformedWeight<float>::make",
    "pixels": "PixelwiseLoops<float, float>::run_slices",
    "planes": "gather_planes<float, float>",
    "planes_of_grad_weight": "PlaneWeightLoops<float>::run",
    "rows_of_channels": "gather_channels<float, float>",
    "rows_of_grad_weight": "ChannelWeightLoops<float>::run",
}


@pytest.fixture(scope="module")
def functions() -> set[str]:
    """Those with a prefetch."""
    name, found = "", set()
    for line in listing().splitlines():
        if symbol := SYMBOL.match(line):
            name = symbol[1]
        elif "\tprefetch" in line:
            found.add(name)
    return found


@pytest.mark.parametrize("loops", LOOPS.values(), ids=LOOPS)
def test_the_loops_prefetch(loops: str, functions: set[str]) -> None:
    assert any(loops in name for name in functions)
