"""The machine: held still before a run, probed during it, described beside every number.

**The allocator.** glibc gives large blocks back to the system as soon as they are freed, and each
call then pays for the page faults of its output again: up to four times the time of the convolution
itself, and it is a matter of chance which side is hit. Here freed memory stays with the process, on
both sides alike, and a GiB is touched beforehand, so that a call finds pages wherever glibc looks.

**The instruction set.** `--isa avx2` holds every library of the process to one instruction set.
Libraries read their limit when they start, so that the process starts anew with it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import convgrad_ext
from benchmarks import BadInputError
from convgrad_ext import _C

PINNED = {
    "MALLOC_MMAP_MAX_": "0",  # no block is mapped by itself, to be unmapped when freed
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),  # the heap never shrinks
    "MALLOC_TOP_PAD_": str(64 << 20),  # and grows in few steps
}
# The settings of mallopt that undo them, by its own numbers in malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, MMAP_MAX = -1, -2, -3, -4
GIVING_BACK = {TOP_PAD: 0, TRIM_THRESHOLD: 0, MMAP_THRESHOLD: 64 << 10, MMAP_MAX: 1 << 16}


def held_to(kernel: str, onednn: str, mkl: str, aten: str, xla: str) -> dict[str, str]:
    """The environment for one instruction set, which each library calls by another name."""
    return {
        "CONVGRAD_ISA": kernel,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "MKL_ENABLE_INSTRUCTIONS": mkl,
        "ATEN_CPU_CAPABILITY": aten,
        "XLA_FLAGS": f"--xla_cpu_max_isa={xla}",
    }


ISAS = {
    "avx2": held_to("avx2", "AVX2", "AVX2", "avx2", "AVX2"),
    "avx512": held_to("avx512", "AVX512_CORE", "AVX512", "avx512", "AVX512"),
}
# Environment variables that change how fast a side is.
INFLUENTIAL = (
    "ATEN", "CONVGRAD", "DNNL", "GOMP", "KMP", "MALLOC", "MKL", "OMP", "ONEDNN", "TORCH", "XLA",
)  # fmt: skip


def can_be_pinned() -> bool:
    return platform.libc_ver()[0] == "glibc"


def is_pinned() -> bool:
    return all(os.environ.get(name) == value for name, value in PINNED.items())


def start_anew(isa: str | None) -> None:
    """Starts this process again with the allocator pinned and every library held to `isa`."""
    wanted = (PINNED if can_be_pinned() else {}) | environment_for(isa)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | wanted)


def environment_for(isa: str | None) -> dict[str, str]:
    if isa is None:
        return {}
    available = [name for name in convgrad_ext.available_kernels() if name in ISAS]
    if isa not in available:
        raise BadInputError(f"isa must be one of {', '.join(available)} here, but got '{isa}'")
    return ISAS[isa]


def touch_heap() -> None:
    """Has the pages of the heap's next bytes made now, which the pinned allocator then keeps."""
    if not is_pinned():
        return
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(heap_bytes())))
    libc.memset(block, 1, ctypes.c_size_t(heap_bytes()))
    libc.free(block)


def heap_bytes() -> int:
    """A GiB, but no more than an eighth of the memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(1 << 30, memory // 8)


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


def thread_counts() -> tuple[int, ...]:
    """The numbers of threads that are worth a comparison."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return (1,) if processors == 1 else (1, processors)


def other_work() -> float:
    """How many threads besides this one run or wait for a processor now; 0 if nothing says it.

    The load average would hold the build that came just before against this run.
    """
    path = Path("/proc/loadavg")
    if not path.exists():
        return 0.0
    running = []
    for _ in range(10):
        time.sleep(0.05)
        running.append(int(path.read_text().split()[3].partition("/")[0]) - 1)
    return max(0.0, mean(running))


def load_average() -> float:
    """Threads that ran or waited for a processor in the last minute, those of this run included."""
    return os.getloadavg()[0]


def describe() -> dict[str, Any]:
    environment = os.environ.items()
    heap = f", {heap_bytes() >> 20} MiB touched beforehand"
    pinned = " ".join(f"{name}={value}" for name, value in PINNED.items()) + heap
    return {
        "processor": processor(),
        "processors": os.cpu_count(),
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "versions": versions(),
        "allocator": pinned if is_pinned() else "as the system has it",
        "environment": {name: value for name, value in environment if name.startswith(INFLUENTIAL)},
    }


def processor() -> str:
    """The name that the processor gives itself; its family too, for virtual ones hide the name."""
    fields = processor_fields()
    name = fields.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def processor_fields() -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    return dict(re.findall(r"^([^\t:]+)\t*: *(.*)$", text, re.MULTILINE))


def has_flag(name: str) -> bool:
    """Whether the processor says that it has this extension."""
    return name in processor_fields().get("flags", "").split()


def versions() -> dict[str, str]:
    onednn = re.search(r"MKL-DNN v([\d.]+)", torch.__config__.show())
    return {
        "convgrad_ext": convgrad_ext.__version__,
        "commit": commit(),
        # GCC does not put its name before its version.
        "compiler": f"GCC {_C.compiler}" if _C.compiler[0].isdecimal() else _C.compiler,
        "torch": torch.__version__,
        "oneDNN": onednn[1] if onednn else "none",
        "python": platform.python_version(),
    }


def commit() -> str:
    """The commit, '-dirty' behind it if files were changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    root = Path(__file__).parent
    try:
        found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
