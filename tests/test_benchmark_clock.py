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
from benchmarks.clock import Effort, EventClock, Side, ratios_by_turn
from benchmarks.clock import measure as measure_sides
from benchmarks.cuda import pin_settings
from benchmarks.devices import BASELINES
from benchmarks.jobs import Job
from benchmarks.layers import Layer


def side(run: Callable[[], Any]) -> Side:
    return Side(run, nullcontext)


def test_sides_are_timed_in_turns_back_and_forth() -> None:
    called: list[str] = []
    sides = [side(lambda: called.append("a")), side(lambda: called.append("b"))]
    measure_sides(sides, SteadyClock(), Effort(block_seconds=0.9e-3, cell_seconds=0.001))
    assert [len(each.blocks) for each in sides] == [5, 5]
    assert "".join(called[-10:]) == "abbaabbaab"


def test_a_slow_side_gets_five_blocks_spread_among_those_of_a_fast_one() -> None:
    clock = SteadyClock()
    called: list[str] = []

    def slow() -> None:
        called.append("s")
        clock.seconds += 0.1

    sides = [side(slow), side(lambda: called.append("f"))]
    measure_sides(sides, clock, Effort(block_seconds=0.9e-3, cell_seconds=0.041))
    assert [len(each.blocks) for each in sides] == [5, 20]
    assert "".join(called[-25:]) == "ffffs" * 5


def test_blocks_are_long_enough_and_begin_with_a_call_that_does_not_count() -> None:
    called: list[str] = []
    timed = side(lambda: called.append("call"))
    measure_sides([timed], SteadyClock(), Effort(block_seconds=3.5e-3, cell_seconds=0.001))
    assert timed.calls == 4
    assert list(timed.blocks.values()) == pytest.approx([1e-3] * 5)
    assert len(called) == 1 + 4 + 5 * (1 + 4)  # two estimates, then the blocks


def blocks(*seconds: float, step: int = 1) -> Side:
    """A side that was timed in every turn, or in every third, fifth, ..."""
    return Side(list, nullcontext, blocks={step * i: each for i, each in enumerate(seconds)})


def test_summary_has_best_median_and_spread() -> None:
    timed = blocks(0.004, 0.001, 0.002, 0.003, 0.005)
    summary = timed.summary()
    assert (summary["best_ms"], summary["median_ms"]) == (1.0, 3.0)
    assert summary["spread"] == pytest.approx((4 - 2) / 3)


def test_ratios_are_of_neighbours() -> None:
    """The machine slows down by ten; both sides slow down by ten and their ratio stays."""
    ours, theirs = blocks(1.0, 1.0, 10.0, 10.0), blocks(2.0, 2.0, 20.0, 20.0)
    assert ratios_by_turn(ours, theirs) == [2.0] * 4
    assert ratios_by_turn(ours, blocks(3.0, 30.0, step=3)) == [3.0] * 2
    assert ratios_by_turn(blocks(1.0, 10.0, step=3), theirs) == [2.0] * 2


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
