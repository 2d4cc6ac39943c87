"""What stands in for the machine, so that the benchmark's own behaviour is tested in no time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the benchmarks are not installed

from benchmarks import console, race
from benchmarks.clock import Clock
from benchmarks.cuda import Cuda, Driver
from benchmarks.devices import Cpu
from benchmarks.implementations import Implementation
from benchmarks.jobs import Job
from benchmarks.layers import Layer
from benchmarks.operands import Form
from benchmarks.run import parser

FLOAT = Form(torch.float32, torch.contiguous_format, "cpu")
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


class SteadyClock:
    """Each call takes a millisecond, however long it takes."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def call(self, run: Callable[[], Any]) -> None:
        run()
        self.seconds += 1e-3

    def now(self) -> float:
        return self.seconds


class StandIn(Cpu):
    """The CPU with a steady clock, known limits, and one kernel that may be wrong."""

    def __init__(self, wrong: Callable[[Tensor], Tensor] | None = None) -> None:
        self.wrong = wrong
        self.measured: list[Job] = []

    def kernels(self, dtype: torch.dtype) -> tuple[str, ...]:
        return ("reference",)

    def implementation(self, name: str) -> Implementation:
        found = super().implementation(name)
        if name != "reference" or self.wrong is None:
            return found
        wrong = self.wrong
        return replace(found, forward=lambda operands: wrong(found.forward(operands)))

    def clock(self) -> Clock:
        return SteadyClock()

    def thread_counts(self) -> tuple[int, ...]:
        return (1,)

    def peak_gflops(self, dtype: torch.dtype, threads: int) -> float:
        return 100.0 * threads

    def bandwidth_gbs(self, threads: int) -> float:
        return 10.0

    def load(self) -> float:
        return 0.0

    def extra_bytes(self, job: Job) -> int | None:
        self.measured.append(job)
        return 1 << 20

    def describe(self) -> dict[str, Any]:
        return MACHINE


class FakeEvent:
    """An event of a device whose time is counted by its driver."""

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver

    def record(self) -> None:
        self.driver.happened.append("record")
        self.milliseconds = self.driver.milliseconds

    def elapsed_time(self, end: FakeEvent) -> float:
        return end.milliseconds - self.milliseconds


class FakeDriver(Driver):
    """A CUDA device on the CPU: it knows what happened, and takes 2 ms to flush its cache."""

    tensor_device = "cpu"
    matrix_size = 8
    megabytes_to_copy = 1

    def __init__(self) -> None:
        self.milliseconds = 0.0
        self.happened: list[str] = []

    def event(self) -> FakeEvent:
        return FakeEvent(self)

    def synchronize(self) -> None:
        self.happened.append("synchronize")

    def flush_cache(self) -> None:
        self.happened.append("flush")
        self.milliseconds += 2.0

    def reset_peak(self) -> int:
        return 1000

    def peak_bytes(self) -> int:
        return 1000 + (3 << 20)

    def describe(self) -> dict[str, Any]:
        return {"GPU": "a stand-in"}


class FakeCuda(Cuda):
    """CUDA as it is, but on a driver that stands in for it, and on kernels of the CPU."""

    def __init__(self, driver: FakeDriver) -> None:
        super().__init__(driver)
        self.fake = driver

    def kernels(self, dtype: torch.dtype) -> tuple[str, ...]:
        return ("reference",)

    def implementation(self, name: str) -> Implementation:
        found = super().implementation(name)
        return replace(found, forward=self.taking_time(found.forward))

    def taking_time(self, forward: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        """The forward, which takes 1 ms of the device's time."""

        def run(operands: Any) -> Tensor:
            self.fake.milliseconds += 1.0
            self.fake.happened.append("run")
            return forward(operands)

        return run

    def load(self) -> float:
        return 0.0

    def describe(self) -> dict[str, Any]:
        return MACHINE | self.fake.describe()


def measure(device: Any, output: Path, *options: str) -> int:
    """benchmarks/run.py with these options, on a stand-in and LAYERS; returns its exit code."""
    brief = "--seconds", "0.05", "--laps", "1"
    arguments = parser().parse_args([*brief, *options, "--output", str(output)])
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(race, "load_layers", lambda classes, quick: list(LAYERS))
        try:
            return console.measure(arguments, device)
        finally:
            torch.set_num_threads(threads)


def rows_in(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    return rows
