"""The tiles of depthwise loops against their contract in csrc/cpu/kernels/tiles.h.

Operands are small whole numbers, so that every order of the additions gives the same sum.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from tile_memory import dtypes, expect, isas, lanes_of, numbers, poisoned, source

from convgrad_ext import _C

ROWS = {1: range(1, 8), 2: range(1, 5)}  # of one vector, and of two
TAPS = range(1, 8)
RUNS = {
    "one_run": [(0, 0)],
    "runs_that_go_back": [(90, 40), (30, 0), (61, 11)],
    "no_runs": [],
}


@isas
@dtypes
@pytest.mark.parametrize("spread", [True, False], ids=["number", "vector"])
@pytest.mark.parametrize("vecs", [1, 2])
@pytest.mark.parametrize("runs", RUNS)
def test_slide_adds_every_product_once(
    isa: str, dtype: torch.dtype, spread: bool, vecs: int, runs: str
) -> None:
    """Under a weight_stride below zero, taps go back, as those of grad_input do."""
    width = vecs * lanes_of(isa, dtype)
    sources, weights = numbers(2000, dtype, seed=1), numbers(1000, dtype, seed=2)
    steps = {"runs": RUNS[runs], "source_stride": 47, "acc_stride": width + 5}
    lane = torch.arange(width)
    for rows, taps, weight_stride in product(ROWS[vecs], TAPS, (9, -35)):
        sums = torch.zeros(rows, width, dtype=torch.float64)
        for a, b in RUNS[runs]:
            for i, j in product(range(rows), range(taps)):
                weight = weights[300 + b + j * weight_stride + (0 if spread else lane)]
                sums[i] += weight.double() * sources[a + (i + j) * 47 + lane].double()
        memory = source(weights)
        for fresh in (True, False):
            acc = poisoned(rows * (width + 5), dtype)
            before = numbers(rows * width, dtype, seed=rows).view(rows, width)
            if not fresh:
                acc[0][acc[1] :][: rows * (width + 5)].view(rows, width + 5)[:, :width] = before
            _C.tile_slide(
                isa,
                spread,
                (vecs, rows, taps),
                [],
                source(sources),
                (memory[0], memory[1] + 300),
                acc,
                {**steps, "weight_stride": weight_stride},
                fresh,
            )
            wanted = sums if fresh else sums + before
            places = product(range(rows), range(width))
            expect(acc, {r * (width + 5) + x: wanted[r, x].item() for r, x in places})


@isas
@dtypes
@pytest.mark.parametrize("fresh", [True, False])
def test_slides_that_follow_are_at_equal_distances(
    isa: str, dtype: torch.dtype, fresh: bool
) -> None:
    lanes = lanes_of(isa, dtype)
    sources, weights = numbers(2000, dtype, seed=1), numbers(100, dtype, seed=2)
    steps = {"runs": [(0, 1), (9, 40)], "source_stride": 47, "weight_stride": 3}
    steps |= {"acc_stride": lanes + 5, "more_tiles": 2, "source_next": 61, "acc_next": 100}
    acc, lane = poisoned(300, dtype), torch.arange(lanes)
    places = {}
    for tile, row in product(range(3), range(2)):
        first = 100 * tile + row * (lanes + 5)
        sums = torch.zeros(lanes, dtype=torch.float64)
        for (a, b), tap in product(steps["runs"], range(2)):
            at = a + 61 * tile + (row + tap) * 47 + lane
            sums += weights[b + 3 * tap].double() * sources[at].double()
        if not fresh:
            acc[0][acc[1] + first :][:lanes] = 2.0
            sums += 2.0
        places |= {first + x: sums[x].item() for x in range(lanes)}
    _C.tile_slide(isa, True, (1, 2, 2), [], source(sources), source(weights), acc, steps, fresh)
    expect(acc, places)


def index_of(lanes: int) -> list[int]:
    """Groups of two lanes, whose sources are two channels, and which do not come in order."""
    return [(lane // 2 * 2 + 2) % lanes for lane in range(lanes)]


@isas
@dtypes
@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("channels", [1, 2])
def test_slide_by_index_adds_every_product_once(
    isa: str, dtype: torch.dtype, runs: str, channels: int
) -> None:
    lanes = lanes_of(isa, dtype)
    sources, weights = numbers(2000, dtype, seed=1), numbers(1000, dtype, seed=2)
    steps = {"runs": RUNS[runs], "source_stride": 47, "acc_stride": lanes + 5}
    steps |= {"weight_channel": 301, "weight_stride": 19, "channels": channels}
    lane, index = torch.arange(lanes), torch.tensor(index_of(lanes))
    for rows, taps in product(ROWS[1], TAPS):
        sums = torch.zeros(rows, lanes, dtype=torch.float64)
        for (a, b), c, i, j in product(RUNS[runs], range(channels), range(rows), range(taps)):
            weight = weights[c * 301 + b + j * 19 + lane].double()
            sums[i] += weight * sources[a + (i + j) * 47 + index + c].double()
        for fresh in (True, False):
            acc = poisoned(rows * (lanes + 5), dtype)
            places = {(r, x): r * (lanes + 5) + x for r, x in product(range(rows), range(lanes))}
            for place in places.values() if not fresh else ():
                acc[0][acc[1] :][place] = 2.0
            _C.tile_slide(
                isa,
                False,
                (1, rows, taps),
                index.tolist(),
                source(sources),
                source(weights),
                acc,
                steps,
                fresh,
            )
            add = 0.0 if fresh else 2.0
            expect(acc, {place: sums[at].item() + add for at, place in places.items()})


@isas
@dtypes
@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("columns", [(0,), (11, 3), (5, 0, 9)], ids=len)
@pytest.mark.parametrize("length", [0, 1, 3])
@pytest.mark.parametrize("channel", [None, 0, 1])
def test_slide_taps_adds_every_product_once(
    isa: str,
    dtype: torch.dtype,
    runs: str,
    columns: tuple[int, ...],
    length: int,
    channel: int | None,
) -> None:
    """With a channel, each lane has its source from its index on."""
    lanes, accs = _C.tile_shape(isa, dtype.itemsize)
    sources, grads = numbers(2000, dtype, seed=1), numbers(1000, dtype, seed=2)
    steps = {"runs": RUNS[runs], "source_stride": 47, "grad_stride": 31, "length": length}
    steps |= {"source_step": 18, "grad_step": 17, "acc_stride": lanes + 3, "acc_column": 400}
    lane = torch.arange(lanes)
    index = [] if channel is None else index_of(lanes)
    places_of_sources = lane if channel is None else torch.tensor(index) + channel
    steps["channel"] = channel or 0
    for rows, taps in product(ROWS[2], TAPS):
        if len(columns) * taps > accs:
            continue
        sums = torch.zeros(len(columns), taps, lanes, dtype=torch.float64)
        for (a, b), q, i in product(RUNS[runs], range(length), range(rows)):
            grad = grads[b + q * 17 + i * 31 + lane].double()
            for k, j in product(range(len(columns)), range(taps)):
                at = a + q * 18 + columns[k] + (i + j) * 47
                sums[k, j] += grad * sources[at + places_of_sources].double()
        for fresh in (True, False):
            acc = poisoned(1200, dtype)
            memory = acc[0][acc[1] :]
            places = {
                (k, j, x): k * 400 + j * (lanes + 3) + x
                for k, j, x in product(range(len(columns)), range(taps), range(lanes))
            }
            for place in places.values() if not fresh else ():
                memory[place] = 2.0
            _C.tile_slide_taps(
                isa, (rows, taps), columns, index, source(sources), source(grads), acc, steps, fresh
            )
            add = 0.0 if fresh else 2.0
            expect(acc, {place: sums[at].item() + add for at, place in places.items()})


@isas
@dtypes
def test_slides_refuse_extents_that_have_no_tile(isa: str, dtype: torch.dtype) -> None:
    memory, steps = source(numbers(10, dtype)), {"runs": []}
    for extents, problem in (
        ((3, 1, 1), "vecs must be from 1 to 2, but got 3"),
        ((1, 8, 1), "rows must be from 1 to 7, but got 8"),
        ((2, 5, 1), "rows must be from 1 to 4, but got 5"),
        ((1, 1, 8), "taps must be from 1 to 7, but got 8"),
    ):
        with pytest.raises(ValueError, match=problem):
            _C.tile_slide(isa, True, extents, [], memory, memory, memory, steps, True)
    most = min(3, _C.tile_shape(isa, dtype.itemsize)[1] // 7)
    with pytest.raises(ValueError, match=f"columns must be from 1 to {most}, but got 4"):
        _C.tile_slide_taps(isa, (1, 7), (0, 0, 0, 0), [], memory, memory, memory, steps, True)
    lanes, steps = lanes_of(isa, dtype), {**steps, "channels": 2}
    for index, problem in (
        ([0] * (lanes - 1), f"index must have {lanes} numbers, but got {lanes - 1}"),
        ([lanes - 1] * lanes, f"an index must be from 0 to {lanes - 2}, but got {lanes - 1}"),
    ):
        with pytest.raises(ValueError, match=problem):
            _C.tile_slide(isa, False, (1, 1, 1), index, memory, memory, memory, steps, True)
    with pytest.raises(ValueError, match="vecs must be from 1 to 1, but got 2"):
        _C.tile_slide(isa, False, (2, 1, 1), [0] * lanes, memory, memory, memory, steps, True)
