"""How the benchmark measures: time by either clock and in turns, memory in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from stand_ins import FLOAT, FakeCuda, FakeDriver, SteadyClock, measure, rows_in

from benchmarks import allocator, memory
from benchmarks.clock import Effort, EventClock, Side
from benchmarks.clock import measure as measure_sides
from benchmarks.cuda import pin_settings
from benchmarks.devices import BASELINES
from benchmarks.jobs import Job
from benchmarks.layers import Layer
from benchmarks.rows import joined, with_figures


def side(run: Callable[[], Any]) -> Side:
    return Side(run, nullcontext)


def test_sides_are_timed_in_turns_back_and_forth() -> None:
    called: list[str] = []
    sides = [side(lambda: called.append("a")), side(lambda: called.append("b"))]
    measure_sides(sides, SteadyClock(), Effort(block_seconds=0.9e-3, cell_seconds=0.001))
    assert [len(each.blocks) for each in sides] == [5, 5]
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


def test_blocks_are_long_enough_and_begin_with_a_call_that_does_not_count() -> None:
    called: list[str] = []
    timed = side(lambda: called.append("call"))
    measure_sides([timed], SteadyClock(), Effort(block_seconds=3.5e-3, cell_seconds=0.001))
    assert timed.calls == 4
    assert timed.blocks == pytest.approx([1e-3] * 5)
    assert len(called) == 1 + 4 + 5 * (1 + 4)  # two estimates, then the blocks


def row_of(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    """A row with these milliseconds in each block."""
    sides = [
        {"problem": None, "blocks_ms": blocks, "calls": 2 * len(blocks), "page_faults": 6}
        for blocks in (ours, theirs)
    ]
    work = {"gflop": 3.0, "effective_gflop": 1.5, "problem": None, "laps": 1, "drift": 0.0}
    return with_figures(work | {"ours": sides[0], "baselines": {"conv2d": sides[1]}})


def test_figures_are_of_the_median_beside_best_and_spread() -> None:
    side = row_of([4.0, 1.0, 2.0, 3.0, 5.0], [1.0] * 5)["ours"]
    assert (side["best_ms"], side["median_ms"]) == (1.0, 3.0)
    assert side["spread"] == pytest.approx((4 - 2) / 3)
    assert (side["gflops"], side["effective_gflops"]) == (1000.0, 500.0)
    assert side["page_faults_per_call"] == pytest.approx(0.6)


def test_ratios_are_of_neighbours() -> None:
    """The machine slows down by ten; both sides slow down by ten and their ratio stays."""
    row = row_of([1.0, 1.0, 10.0, 10.0], [2.0, 2.0, 20.0, 20.0])
    assert (row["ratios"], row["ratio_spreads"]) == ({"conv2d": 2.0}, {"conv2d": 0.0})


def test_laps_are_joined() -> None:
    quiet, disturbed = row_of([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]), row_of([3.0, 3.0], [3.0, 3.0])
    row = joined(quiet | {"drift": 0.2}, disturbed | {"drift": 0.1})
    assert row["ours"]["blocks_ms"] == [1.0, 1.0, 1.0, 3.0, 3.0]
    assert (row["ours"]["calls"], row["ours"]["page_faults"]) == (10, 12)
    assert (row["laps"], row["drift"]) == (2, 0.2)
    assert row["ratios"] == {"conv2d": 2.0}
    assert row["ratio_spreads"]["conv2d"] == pytest.approx(0.5)


@pytest.mark.parametrize("problems", [("it is wrong", None), (None, "it is wrong")])
def test_a_row_that_is_wrong_in_one_lap_is_wrong(problems: tuple[str | None, str | None]) -> None:
    before, row = (row_of([1.0], [1.0]) | {"problem": problem} for problem in problems)
    assert joined(before, row)["problem"] == "it is wrong"


def test_events_time_the_call_alone() -> None:
    driver = FakeDriver()
    clock = EventClock(driver)

    def run() -> None:
        driver.happened.append("run")
        driver.milliseconds += 1.0

    before = clock.now()
    clock.call(run)
    clock.call(run)
    assert clock.now() - before == pytest.approx(2e-3)
    assert driver.happened[1:] == ["flush", "record", "run", "record"] * 2 + ["synchronize"]


# CUDA's path, on a stand-in.


def test_cuda_is_measured_by_its_events(tmp_path: Path) -> None:
    output = tmp_path / "cuda.json"
    device = FakeCuda(FakeDriver())
    assert measure(device, output, "--device", "cuda", "--passes", "forward") == 0
    for row in rows_in(output):
        assert row["threads"] == 1
        for timed in (row["ours"], *row["baselines"].values()):
            assert (timed["best_ms"], timed["median_ms"]) == pytest.approx((1.0, 1.0))
            assert timed["extra_mib"] == pytest.approx(3.0, abs=0.01)
        assert set(row["ratios"]) == set(BASELINES)


def test_cuda_pins_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("benchmark", "allow_tf32"):
        monkeypatch.setattr(torch.backends.cudnn, setting, getattr(torch.backends.cudnn, setting))
    for tf32 in (True, False):
        pin_settings(tf32)
        assert torch.backends.cudnn.benchmark
        assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == tf32


# Memory.


def test_memory_of_a_call_leaves_out_operands_and_results() -> None:
    layer = Layer("dense3x3", "wide", 1, 32, 128, 128, 8, 3, 3, 1, 1, 1, 1, 1)
    columns = layer.columns() * 4
    extra = {
        name: memory.extra_bytes(Job(layer, "forward", name, FLOAT, 1))
        for name in ("unfold", "reference")
    }
    if None in extra.values():
        pytest.skip("this system does not say what is resident")
    # The matrix product has buffers of its own: 4 MiB of MKL's on one processor, none on another.
    assert 0.95 * columns <= extra["unfold"] <= columns + (8 << 20)
    assert extra["reference"] <= 1 << 20


@pytest.mark.skipif(not allocator.can_be_pinned(), reason="not glibc")
def test_the_pinned_allocator_does_not_fault() -> None:
    code = (
        "import torch; from benchmarks import allocator; from benchmarks.clock import page_faults\n"
        "allocator.touch_heap(); before = page_faults()\n"
        "for _ in range(5): torch.ones(16 << 20)\n"
        "print(page_faults() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(allocator.__file__).parent.parent,
        env=os.environ | allocator.PINNED,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 100  # of 5 x 16384 pages
