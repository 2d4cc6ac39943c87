"""What stands in for the machine, so that the benchmark's own behaviour is tested in no time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the benchmarks are not installed

from benchmarks import machine, run, sides
from benchmarks import measure as measuring
from benchmarks.layers import Form, Layer
from benchmarks.sides import Job

FLOAT = Form(torch.float32, torch.contiguous_format)
LAYERS = [
    Layer("dense3x3", "small", 2, 4, 6, 5, 4, 3, 3, 1, 1, 1, 1, 1),
    Layer("depthwise", "narrow", 2, 4, 7, 7, 4, 3, 3, 2, 1, 1, 1, 4),
]
MACHINE = {
    "processor": "a stand-in",
    "processors": 2,
    "instruction set": "none",
    "system": "none",
    "versions": {"torch": torch.__version__},
    "allocator": "as it is",
    "environment": {},
}


def takes_a_millisecond(run: Callable[[], Any], calls: int) -> float:
    """A clock: each call takes a millisecond, however long it takes."""
    for _ in range(calls):
        run()
    return 1e-3


class StandIn:
    """A quiet machine with a steady clock, known limits, and one kernel that may be wrong."""

    kernels: tuple[str, ...] = ("reference",)
    layers: tuple[Layer, ...] = tuple(LAYERS)

    def __init__(self, wrong: Callable[[Tensor], Tensor] | None = None) -> None:
        self.wrong = wrong
        self.measured: list[Job] = []  # the jobs whose memory was asked for

    def extra_bytes(self, job: Job) -> int | None:
        self.measured.append(job)
        return 1 << 20

    def peak_gflops(self, dtype: torch.dtype, threads: int) -> float:
        return 100.0 * threads

    def replace_the_machine(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(machine, "peak_gflops", self.peak_gflops)
        patch.setattr(machine, "bandwidth_gbs", lambda threads: 10.0)
        patch.setattr(machine, "other_work", lambda: 0.0)
        patch.setattr(machine, "load_average", lambda: 0.5)
        patch.setattr(machine, "describe", lambda: MACHINE)
        patch.setattr(machine, "thread_counts", lambda: [1])
        patch.setattr(measuring, "seconds_a_call", takes_a_millisecond)
        patch.setattr(measuring, "extra_bytes", self.extra_bytes)
        patch.setattr(run, "load_layers", lambda classes, quick: list(self.layers))
        patch.setattr(run, "kernel_names", lambda dtype: self.kernels)
        if self.wrong is not None:
            wrong, forward = self.wrong, sides.OURS.single["forward"]
            patch.setitem(sides.OURS.single, "forward", lambda operands: wrong(forward(operands)))


def measure(stand_in: StandIn, output: Path, *options: str) -> int:
    """benchmarks/run.py with these options, on a stand-in and its layers; returns its exit code."""
    brief = "--seconds", "0.05", "--laps", "1"
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        stand_in.replace_the_machine(patch)
        try:
            return run.main([*brief, *options, "--output", str(output)])
        finally:
            torch.set_num_threads(threads)


def rows_in(path: Path, ours: bool = True) -> list[dict[str, Any]]:
    """The rows of our kernels, or of the baselines."""
    return [row for row in json.loads(path.read_text())["rows"] if row["ours"] == ours]
