"""The register tile of each instruction set against its contract in csrc/cpu/kernels/tiles.h.

Operands are small whole numbers, so that every order of the additions gives the same sum. All rows
of all widths are tried, at addresses that no vector is aligned to.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tile_memory import dtypes, expect, isas, lanes_of, numbers, poisoned, source
from torch import Tensor

from convgrad_ext import _C

PANEL_STRIDE = 1000  # from the vectors of one panel to those of the next

REDUCTIONS = {  # runs as (offset in A, offset in B), then the steps that they have
    "one_run": {"runs": [(0, 0)], "length": 7, "a_step": 30, "b_step": 17},
    "one_step_per_run": {"runs": [(0, 0), (5, 64), (11, 160)], "length": 1, "a_step": 0},
    "runs_that_go_back": {"runs": [(90, 300), (40, 0)], "length": 3, "a_step": -20, "b_step": 33},
    "empty_runs": {"runs": [(0, 0), (3, 5)], "length": 0, "a_step": 1},
    "no_runs": {"runs": [], "length": 4, "a_step": 1},
}


# The tile with "vectors_adjacent" prefetches; it is not told where panels are, for there are none.
VECTORS = {"panels": {"panel_stride": PANEL_STRIDE}, "adjacent": {"vectors_adjacent": True}}


def expected_sums(a: Tensor, b: Tensor, steps: dict[str, Any], rows: int, width: int, lanes: int):
    """The contract word by word: acc[row][lane] of every product A[row, q] * B[q, lane]."""
    sums = torch.zeros(rows, width, dtype=torch.float64)
    lane = torch.arange(width)
    columns = lane // lanes * steps.get("panel_stride", lanes) + lane % lanes
    for run_a, run_b in steps["runs"]:
        for i in range(steps["length"]):
            row = torch.arange(rows) * steps["row_stride"] + run_a + i * steps["a_step"]
            q = run_b + i * steps["b_step"]
            sums += a[row + 64].double()[:, None] * b[q + columns].double()[None]
    return sums


@isas
@dtypes
@pytest.mark.parametrize("vecs", [1, 2, 3, 4])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("row_stride", [1, 13])
@pytest.mark.parametrize("vectors", VECTORS)
def test_tile_adds_every_product_once(
    isa: str, dtype: torch.dtype, vecs: int, reduction: str, row_stride: int, vectors: str
) -> None:
    lanes, accs = _C.tile_shape(isa, dtype.itemsize)
    a, b = numbers(1000, dtype, seed=1), numbers(5000, dtype, seed=2)
    memory_a, memory_b = source(a), source(b)
    width = vecs * lanes
    steps = {"b_step": lanes, **REDUCTIONS[reduction], "row_stride": row_stride}
    steps |= {**VECTORS[vectors], "acc_stride": width + 5}
    for rows in range(1, min(28, accs // vecs) + 1):
        for fresh in (True, False):
            acc = poisoned(rows * (width + 5), dtype)
            before = numbers(rows * width, dtype, seed=rows).view(rows, width)
            view = acc[0][acc[1] :][: rows * (width + 5)].view(rows, width + 5)
            if not fresh:
                view[:, :width] = before
            start = (memory_a[0], memory_a[1] + 64)
            _C.tile(isa, (rows, vecs), start, memory_b, acc, steps, fresh)
            sums = expected_sums(a, b, steps, rows, width, lanes)
            wanted = sums if fresh else sums + before
            places = {
                r * (width + 5) + x: wanted[r, x].item() for r in range(rows) for x in range(width)
            }
            expect(acc, places)


@isas
@dtypes
@pytest.mark.parametrize("vectors", VECTORS)
def test_tiles_that_follow_are_at_equal_distances(
    isa: str, dtype: torch.dtype, vectors: str
) -> None:
    lanes, accs = _C.tile_shape(isa, dtype.itemsize)
    a, b = numbers(1000, dtype, seed=1), numbers(5000, dtype, seed=2)
    memory_a, memory_b = source(a), source(b)
    steps = {"b_step": 3 * lanes, "row_stride": 13, "runs": [(0, 9), (40, 0)], "length": 3}
    steps |= {**VECTORS[vectors], "a_step": 30, "acc_stride": 300}
    steps |= {"more_tiles": 2, "a_next": 7, "b_next": 11, "acc_next": 90}
    rows, width = min(4, accs // 3), 3 * lanes
    acc = poisoned(rows * 300, dtype)
    _C.tile(isa, (rows, 3), (memory_a[0], memory_a[1] + 64), memory_b, acc, steps, True)
    places = {}
    for i in range(3):
        sums = expected_sums(a[7 * i :], b[11 * i :], steps, rows, width, lanes)
        places |= {
            90 * i + 300 * r + x: sums[r, x].item() for r in range(rows) for x in range(width)
        }
    expect(acc, places)


@isas
@dtypes
def test_tile_refuses_rows_that_have_no_registers(isa: str, dtype: torch.dtype) -> None:
    accs = _C.tile_shape(isa, dtype.itemsize)[1]
    memory = source(numbers(100, dtype))
    with pytest.raises(ValueError, match=f"rows must be from 1 to {accs // 4}, but got 99"):
        _C.tile(isa, (99, 4), memory, memory, memory, {"runs": [], "row_stride": 1}, True)
    with pytest.raises(ValueError, match="vecs must be from 1 to 4, but got 5"):
        _C.tile(isa, (1, 5), memory, memory, memory, {"runs": [], "row_stride": 1}, True)


@pytest.mark.parametrize("isa", ["sse9", ""])
def test_an_instruction_set_is_named(isa: str) -> None:
    with pytest.raises(ValueError, match="isa must be an instruction set of this processor"):
        _C.tile_shape(isa, 4)


@isas
@dtypes
def test_an_infinity_stays_in_its_row(isa: str, dtype: torch.dtype) -> None:
    """Rows and lanes do not mix: a sum has its own products alone."""
    lanes = lanes_of(isa, dtype)
    a = torch.ones(64 + 4, dtype=dtype)
    a[64 + 2] = torch.inf
    acc = poisoned(4 * lanes, dtype)
    memory_a, memory_b = source(a), source(torch.ones(lanes, dtype=dtype))
    steps = {"runs": [(0, 0)], "length": 1, "a_step": 0, "b_step": 0}
    steps |= {"row_stride": 1, "panel_stride": 0, "acc_stride": lanes}
    _C.tile(isa, (4, 1), (memory_a[0], memory_a[1] + 64), memory_b, acc, steps, True)
    rows = [1.0, 1.0, torch.inf, 1.0]
    expect(acc, {r * lanes + x: rows[r] for r in range(4) for x in range(lanes)})
