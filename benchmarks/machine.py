"""The machine: held still before a run, probed during it, described beside every number.

glibc gives large blocks back to the system as soon as they are freed. Each call then pays for the
page faults of its output again, up to four times the time of the convolution itself, and it is a
matter of chance which side is hit. Here freed memory stays with the process, on both sides alike.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import convgrad_ext
from convgrad_ext import _C
from convgrad_ext.info import processor_name

PINNED = {
    "MALLOC_MMAP_MAX_": "0",  # no block is mapped by itself, to be unmapped when freed
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),  # the heap never shrinks
    "MALLOC_TOP_PAD_": str(64 << 20),  # and grows in few steps
}
# The settings of mallopt that undo them, by its own numbers in malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4
GIVING_BACK = {TOP_PAD: 0, TRIM_THRESHOLD: 0, MMAP_THRESHOLD: 64 << 10, MMAP_MAX: 1 << 16}


def held_to(kernel: str, onednn: str, mkl: str) -> dict[str, str]:
    """The environment for one instruction set. Libraries read it when they start."""
    return {
        "CONVGRAD_ISA": kernel,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "MKL_ENABLE_INSTRUCTIONS": mkl,
        "ATEN_CPU_CAPABILITY": kernel,
        "XLA_FLAGS": f"--xla_cpu_max_isa={mkl}",
    }


ISAS = {
    "avx2": held_to("avx2", "AVX2", "AVX2"),
    "avx512": held_to("avx512", "AVX512_CORE", "AVX512"),
}
# Environment variables that change how fast a side is.
INFLUENTIAL = (
    "ATEN", "CONVGRAD", "DNNL", "GOMP", "KMP", "MALLOC", "MKL", "OMP", "ONEDNN", "TORCH", "XLA",
)  # fmt: skip


def is_pinned() -> bool:
    return os.environ.items() >= PINNED.items()


def start_anew(isa: str | None) -> None:
    """Starts this process again with the allocator pinned and every library held to `isa`."""
    wanted = PINNED | (ISAS[isa] if isa else {})
    if not os.environ.items() >= wanted.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | wanted)


def touch_heap() -> None:
    """Touches the heap's first pages now. The pinned allocator keeps them, so no call waits."""
    if is_pinned():
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        torch.ones(min(1 << 30, memory // 8), dtype=torch.uint8)


def give_back_memory() -> None:
    """Undoes the pinning, for a process whose resident memory is to show the memory in use."""
    libc = ctypes.CDLL(None)
    for option, value in GIVING_BACK.items():
        libc.mallopt(option, value)
    libc.malloc_trim(0)


def peak_gflops(dtype: torch.dtype, threads: int) -> float:
    """The most multiply-adds that the registers do, probed now; half precision has float32's."""
    return _C.fma_peak_gflops(dtype if dtype == torch.float64 else torch.float32, threads)


def bandwidth_gbs(threads: int) -> float:
    return _C.bandwidth_gbs(threads)


def thread_counts() -> list[int]:
    """The numbers of threads that are worth a comparison."""
    return sorted({1, len(os.sched_getaffinity(0))})


def other_work() -> float:
    """How many threads besides this one run or wait for a processor now.

    The load average would hold the build that came just before against this run.
    """
    running = []
    for _ in range(10):
        time.sleep(0.05)
        running.append(int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]))
    return mean(running) - 1


def load_average() -> float:
    """Threads that ran or waited for a processor in the last minute, those of this run included."""
    return os.getloadavg()[0]


def has_flag(name: str) -> bool:
    """Whether the processor says that it has this extension."""
    return name in Path("/proc/cpuinfo").read_text().split()


def describe() -> dict[str, Any]:
    environment = os.environ.items()
    peers = [name for name in ("jax", "onnxruntime") if name in sys.modules]
    return {
        "processor": processor_name(),
        "processors": os.cpu_count(),
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "versions": {
            "convgrad_ext": convgrad_ext.__version__,
            "commit": commit(),
            "compiler": _C.compiler,
            "torch": torch.__version__,
            "python": platform.python_version(),
            **{name: sys.modules[name].__version__ for name in peers},
        },
        "allocator": "keeps what is freed" if is_pinned() else "as the system has it",
        "environment": {name: value for name, value in environment if name.startswith(INFLUENTIAL)},
    }


def commit() -> str:
    """The commit, '-dirty' behind it if files were changed since; empty outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return found.stdout.strip()
