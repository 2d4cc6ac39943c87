"""A device: what runs on it, by which clock, beside which peak. The CPU here, CUDA in cuda.py."""

from __future__ import annotations

import os
from itertools import chain
from typing import Any, Protocol

import torch

import convgrad_ext
from benchmarks import machine, memory
from benchmarks.clock import Clock, WallClock
from benchmarks.errors import BadInputError
from benchmarks.implementations import Implementation, baselines, kernel
from benchmarks.jobs import Job
from benchmarks.kernel_names import WINOGRAD
from convgrad_ext import _C

BASELINES = ("conv2d", "aten", "unfold")
AGAINST_ITSELF = "conv2d"  # a baseline in a kernel's place shows what the instrument itself adds


class Device(Protocol):
    name: str
    tensor_device: str

    def kernels(self, dtype: torch.dtype) -> tuple[str, ...]:
        """Our kernels for this dtype, fastest first; behind each, the same with Winograd."""

    def implementation(self, name: str) -> Implementation:
        """The kernel or baseline of that name."""

    def thread_counts(self) -> tuple[int, ...]:
        """The numbers of threads that are worth a comparison."""

    def clock(self) -> Clock: ...

    def peak_gflops(self, dtype: torch.dtype, threads: int) -> float:
        """The most that this machine does, measured now."""

    def bandwidth_gbs(self, threads: int) -> float: ...

    def load(self) -> float:
        """How much other work the machine has."""

    def extra_bytes(self, job: Job) -> int | None:
        """What one call takes beyond its operands and results at its peak; None if unknown."""

    def describe(self) -> dict[str, Any]: ...


class Cpu:
    name = "cpu"
    tensor_device = "cpu"

    def kernels(self, dtype: torch.dtype) -> tuple[str, ...]:
        described = {each["name"]: each for each in _C.kernels()}
        names = [n for n in convgrad_ext.available_kernels() if dtype in described[n]["dtypes"]]
        both = ((name, name + WINOGRAD) for name in names if name != "reference")
        return (*chain.from_iterable(both), "reference")

    def implementation(self, name: str) -> Implementation:
        return baselines(torch.backends.mkldnn).get(name) or kernel(name)

    def thread_counts(self) -> tuple[int, ...]:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        return (1,) if processors == 1 else (1, processors)

    def clock(self) -> Clock:
        return WallClock()

    def peak_gflops(self, dtype: torch.dtype, threads: int) -> float:
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        return _C.fma_peak_gflops(wide, threads)

    def bandwidth_gbs(self, threads: int) -> float:
        return _C.bandwidth_gbs(threads)

    def load(self) -> float:
        return machine.load()

    def extra_bytes(self, job: Job) -> int | None:
        return memory.extra_bytes(job)

    def describe(self) -> dict[str, Any]:
        return machine.describe()


def open_device(name: str, tf32: bool) -> Device:
    if name == "cpu":
        return Cpu()
    if name != "cuda":
        raise BadInputError(f"unknown device '{name}', known are cpu, cuda")
    from benchmarks.cuda import open_cuda

    return open_cuda(tf32)
