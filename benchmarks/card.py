"""The GPU: its clock, its graphs, its memory and its limits. Only this file asks CUDA for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import triton
from torch import Tensor
from triton.testing import do_bench

from benchmarks import BadInputError, machine

Results = tuple[Tensor, ...]

WARMUP = 3  # calls before a graph is captured: they compile, and choose an algorithm
LARGEST_SCRATCH = 256 << 20
PROBED_EXTENT = 8192  # of the matrices whose product shows the peak
PROBED_BYTES = 1 << 30


class Card:
    """The current GPU."""

    device = torch.device("cuda")

    def __init__(self, precision: str) -> None:
        """`precision` is that of products of float32, "tf32" or "ieee"."""
        if not torch.cuda.is_available():
            raise BadInputError("--device cuda needs a GPU, and PyTorch finds none")
        self.precision = precision
        self.properties = torch.cuda.get_device_properties(self.device)
        size = min(4 * self.properties.L2_cache_size, LARGEST_SCRATCH)
        self.scratch = torch.empty(size, dtype=torch.int8, device=self.device)

    def flush(self) -> None:
        """Fills the L2 cache with something else."""
        self.scratch.zero_()

    # The clock. Both kinds of call find their operands in memory, not in a cache.

    def eager_seconds(self, run: Callable[[], Any]) -> float:
        """From the call to the end of its kernels: what the host does counts."""
        self.flush()
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    def replay_seconds(self, run: Callable[[], Any]) -> float:
        """Of the kernels alone: they follow the flush without a pause for the host."""
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flush()
        before.record()
        run()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after)) * 1e-3

    def captured(self, run: Callable[[], Results]) -> Callable[[], Results]:
        """A call that replays what `run` launches; its results stay where they are."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARMUP):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = run()

        def replay() -> Results:
            graph.replay()
            return results

        return replay

    # Memory and limits.

    def extra_bytes(self, run: Callable[[], Results]) -> int:
        """The most that a call holds beyond operands and results."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results = run()
        torch.cuda.synchronize()
        kept = sum(result.untyped_storage().nbytes() for result in results)
        return max(0, torch.cuda.max_memory_allocated() - before - kept)

    def peak_gflops(self, dtype: torch.dtype, threads: int) -> float:
        """Of a large product of matrices in this precision: what cuBLAS reaches."""
        torch.backends.cuda.matmul.fp32_precision = self.precision  # nothing else here multiplies
        a, b = torch.randn(2, PROBED_EXTENT, PROBED_EXTENT, device=self.device).to(dtype)
        return 2e-6 * PROBED_EXTENT**3 / float(do_bench(lambda: a @ b))

    def bandwidth_gbs(self, threads: int) -> float:
        """Of a copy, which reads and writes."""
        source = torch.empty(PROBED_BYTES, dtype=torch.int8, device=self.device)
        destination = torch.empty_like(source)
        return 2e-6 * PROBED_BYTES / float(do_bench(lambda: destination.copy_(source)))

    def describe(self) -> dict[str, Any]:
        """The host's description, with the card, its driver and the versions that matter to it."""
        host = machine.describe()
        versions = {
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
            "triton": triton.__version__,
            "driver": torch._C._cuda_getDriverVersion(),  # type: ignore[attr-defined]
        }
        architecture = f"sm_{self.properties.major}{self.properties.minor}"
        card = f"{self.properties.name}, {architecture}"
        return host | {"card": card, "versions": host["versions"] | versions}
