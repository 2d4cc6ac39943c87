"""How the benchmark measures: time in turns and in blocks, memory in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from math import isnan
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import pytest
import torch
from stand_ins import FLOAT, takes_a_millisecond

from benchmarks import machine
from benchmarks import measure as measuring
from benchmarks.layers import Layer
from benchmarks.measure import Effort, Timing, joined, seconds_a_call, time_in_turns
from benchmarks.report import lines_of
from benchmarks.sides import Job, Side


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "seconds_a_call", takes_a_millisecond)


def timing(run: Callable[[], Any]) -> Timing:
    return Timing(Side(run))


@pytest.mark.usefixtures("steady")
def test_sides_are_timed_in_turns_back_and_forth() -> None:
    called: list[str] = []
    timings = [timing(lambda: called.append("a")), timing(lambda: called.append("b"))]
    time_in_turns(timings, Effort(block_seconds=0.9e-3, cell_seconds=0.001))
    assert [len(each.blocks) for each in timings] == [5, 5]
    assert "".join(called[-10:]) == "abbaabbaab"


@pytest.mark.parametrize(
    ("turn_seconds", "laps", "turns"),
    [
        pytest.param(0.1, 1, 10, id="as many as the time allows"),
        pytest.param(0.1, 2, 5, id="shared by the laps"),
        pytest.param(9.0, 1, 5, id="five however long they take"),
        pytest.param(9.0, 4, 2, id="five in all laps together"),
        pytest.param(1e-6, 1, 40, id="no more than forty"),
    ],
)
def test_number_of_turns(turn_seconds: float, laps: int, turns: int) -> None:
    assert Effort(cell_seconds=1.05, laps=laps).turns(turn_seconds) == turns


@pytest.mark.usefixtures("steady")
def test_blocks_are_long_enough_and_begin_with_a_call_that_does_not_count() -> None:
    called: list[str] = []
    timed = timing(lambda: called.append("call"))
    time_in_turns([timed], Effort(block_seconds=3.5e-3, cell_seconds=0.001))
    assert timed.calls == 4
    assert timed.blocks == pytest.approx([1e-3] * 5)
    assert len(called) == 1 + 4 + 5 * (1 + 4)  # two estimates, then the blocks


def test_a_calls_time_is_its_share_of_the_block() -> None:
    called: list[float] = []
    before = perf_counter()
    share = seconds_a_call(lambda: called.append(sleep(0.002) or 0.0), 4)
    assert 0.002 <= share <= (perf_counter() - before) / 4
    assert len(called) == 4


def row_of(ours: list[float], theirs: list[float], **others: Any) -> list[dict[str, Any]]:
    """The rows of a cell whose sides have these milliseconds in each block."""
    common = {
        "layer": "a", "class": "1x1", "pass": "forward", "threads": 1, "path": "",
        "gflop": 3.0, "effective_gflop": 1.5, "problem": None, "laps": 1, "extra_mib": 1.0,
    }  # fmt: skip
    return [
        common | {"side": name, "ours": is_ours, "blocks_ms": blocks} | others
        for name, is_ours, blocks in (("fast", True, ours), ("conv2d", False, theirs))
    ]


def test_figures_are_of_the_median_beside_best_and_spread() -> None:
    (line,) = lines_of(row_of([4.0, 1.0, 2.0, 3.0, 5.0], [1.0] * 5))
    assert (line["best"], line["ms"]) == (1.0, 3.0)
    assert line["spread"] == pytest.approx((4 - 2) / 3)
    assert (line["GFLOP/s"], line["effective"]) == (1000.0, 500.0)


def test_ratios_are_of_neighbours() -> None:
    """The machine slows down by ten; both sides slow down by ten and their ratio stays."""
    (line,) = lines_of(row_of([1.0, 1.0, 10.0, 10.0], [2.0, 2.0, 20.0, 20.0]))
    assert (line["/ conv2d"], line["± conv2d"]) == (2.0, 0.0)


def test_laps_are_joined() -> None:
    quiet = row_of([1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
    disturbed = row_of([3.0, 3.0], [3.0, 3.0])
    rows = [*map(joined, quiet, disturbed)]
    assert rows[0]["blocks_ms"] == [1.0, 1.0, 1.0, 3.0, 3.0]
    assert rows[0]["laps"] == 2
    (line,) = lines_of(rows)
    assert line["/ conv2d"] == 2.0
    assert line["± conv2d"] == pytest.approx(0.5)


@pytest.mark.parametrize("problems", [("it is wrong", None), (None, "it is wrong")])
def test_a_row_that_is_wrong_in_one_lap_is_wrong(problems: tuple[str | None, str | None]) -> None:
    before, after = (row_of([1.0], [1.0], problem=problem)[0] for problem in problems)
    assert joined(before, after)["problem"] == "it is wrong"
    (line,) = lines_of([joined(before, after), row_of([1.0], [1.0])[1]])
    assert isnan(line["/ conv2d"])


# Memory.


WIDE = Layer("dense3x3", "wide", 1, 32, 128, 128, 8, 3, 3, 1, 1, 1, 1, 1)


def convolve_by_columns() -> int:
    """Without oneDNN, F.conv2d writes the columns of the image out: 9 numbers for each of it."""
    torch.backends.mkldnn.set_flags(False)
    return measuring.extra_of_job(Job(WIDE, "forward", "conv2d", FLOAT, 1))


def test_memory_of_a_call_leaves_out_operands_and_results() -> None:
    columns = 9 * 32 * 128 * 128 * 4
    unrolled = measuring.in_fresh_process(1, convolve_by_columns)
    reference = measuring.extra_bytes(Job(WIDE, "forward", "reference", FLOAT, 1))
    if unrolled is None or reference is None:
        pytest.skip("this system does not say what is resident")
    # The matrix product has buffers of its own: 4 MiB of MKL's on one processor, none on another.
    assert 0.95 * columns <= unrolled <= columns + (8 << 20)
    assert reference <= 1 << 20


def test_a_process_that_dies_has_no_memory() -> None:
    assert measuring.in_fresh_process(1, partial(os._exit, 1)) is None


def test_the_pinned_allocator_does_not_fault() -> None:
    code = (
        "import resource, torch; from benchmarks import machine\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "machine.touch_heap(); before = faults()\n"
        "for _ in range(5): torch.ones(16 << 20)\n"
        "print(faults() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(machine.__file__).parent.parent,
        env=os.environ | machine.PINNED,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 100  # of 5 x 16384 pages
