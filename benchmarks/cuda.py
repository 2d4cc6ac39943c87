"""CUDA as a device: its events for a clock, cuDNN for a baseline."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.clock import Clock, EventClock
from benchmarks.errors import BadInputError
from benchmarks.implementations import Implementation, baselines, device_kernel
from benchmarks.jobs import Job
from benchmarks.operands import bytes_of

KERNEL = "triton"


class Driver:
    """All that is asked of the hardware; another one may stand in for it."""

    tensor_device = "cuda"
    matrix_size = 4096
    megabytes_to_copy = 256

    def event(self) -> Any:
        return torch.cuda.Event(enable_timing=True)

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    @cached_property
    def larger_than_cache(self) -> Tensor:
        size = 2 * torch.cuda.get_device_properties(0).L2_cache_size
        return torch.empty(size, dtype=torch.int8, device=self.tensor_device)

    def flush_cache(self) -> None:
        self.larger_than_cache.zero_()

    def reset_peak(self) -> int:
        """From here on the peak of memory counts; returns what is in use."""
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated()

    def describe(self) -> dict[str, Any]:
        properties = torch.cuda.get_device_properties(0)
        return {
            "GPU": properties.name,
            "compute capability": f"{properties.major}.{properties.minor}",
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
        }


class Cuda:
    name = "cuda"

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.tensor_device = driver.tensor_device

    def kernels(self, dtype: torch.dtype) -> tuple[str, ...]:
        return (KERNEL,)

    def implementation(self, name: str) -> Implementation:
        return baselines(torch.backends.cudnn).get(name) or device_kernel(name)

    def thread_counts(self) -> tuple[int, ...]:
        return (1,)

    def clock(self) -> Clock:
        return EventClock(self.driver)

    def peak_gflops(self, dtype: torch.dtype, threads: int) -> float:
        """What the vendor's matrix product does, with the units that the dtype has."""
        size = self.driver.matrix_size
        a, b = (torch.rand(size, size, device=self.tensor_device).to(dtype) for _ in range(2))
        return 2e-9 * size**3 / self.best_seconds(lambda: a @ b)

    def bandwidth_gbs(self, threads: int) -> float:
        megabytes = self.driver.megabytes_to_copy
        source = torch.empty(megabytes << 20, dtype=torch.int8, device=self.tensor_device)
        target = torch.empty_like(source)
        return 2e-9 * (megabytes << 20) / self.best_seconds(lambda: target.copy_(source))

    def best_seconds(self, run: Any, calls: int = 5) -> float:
        clock = self.clock()
        run()
        seconds = []
        for _ in range(calls):
            before = clock.now()
            clock.call(run)
            seconds.append(clock.now() - before)
        return max(min(seconds), 1e-9)

    def load(self) -> float:
        return machine.load()

    def extra_bytes(self, job: Job) -> int | None:
        side = job.side(self)
        side.call()
        before = self.driver.reset_peak()
        results = side.call()
        return self.driver.peak_bytes() - before - bytes_of(results)

    def describe(self) -> dict[str, Any]:
        return machine.describe() | self.driver.describe()


def pin_settings(tf32: bool) -> None:
    """cuDNN may search for its fastest algorithm; TF32 is the same on both sides."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32


def open_cuda(tf32: bool) -> Cuda:
    if not torch.cuda.is_available():
        raise BadInputError("device 'cuda' is not there: this PyTorch sees no CUDA device")
    pin_settings(tf32)
    return Cuda(Driver())
