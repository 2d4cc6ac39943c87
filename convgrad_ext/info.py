"""``python -m convgrad_ext info``: the versions, the processor, the kernels and their paths."""

from __future__ import annotations

import os
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import convgrad_ext
from convgrad_ext import _C
from convgrad_ext.plans import PASSES, Plan, kibibytes, plans
from convgrad_ext.winograd import allow_winograd


def run(console: Console) -> int:
    console.print(versions())
    console.print(kernels())
    console.print(paths())
    return 0


def versions() -> Table:
    table = Table("", "version", title="convgrad_ext", title_justify="left")
    table.add_row("convgrad_ext", convgrad_ext.__version__)
    table.add_row("torch", torch.__version__)
    table.add_row("Python", platform.python_version())
    table.add_row("processor", f"{processor_name()}, {platform.machine()}")
    table.add_row("instructions", torch.backends.cpu.get_cpu_capability())
    table.add_row("threads", str(torch.get_num_threads()))
    table.add_row("L1d, L2 that plans count with", ", ".join(map(kibibytes, _C.cache_sizes())))
    for variable in ("CONVGRAD_ISA", "CONVGRAD_CACHE", "CONVGRAD_LOG"):
        table.add_row(variable, os.environ.get(variable) or "not set")
    table.add_row("Winograd", "allowed" if convgrad_ext.winograd_allowed() else "not allowed")
    return table


def kernels() -> Table:
    table = Table("kernel", "instruction set", "dtypes", "passes", "here", title="kernels")
    table.title_justify = "left"
    for kernel in _C.kernels():
        table.add_row(
            kernel["name"],
            kernel["isa"],
            ", ".join(str(dtype).removeprefix("torch.") for dtype in kernel["dtypes"]),
            ", ".join(kernel["passes"]),
            "yes" if kernel["available"] else "no",
        )
    return table


# Name, input and weight sizes, and the arguments of conv2d of layers that networks have.
LAYERS: tuple[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ("1x1", (1, 64, 56, 56), (256, 64, 1, 1), {}),
    ("3x3", (1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    ("3x3, stride 2", (1, 128, 56, 56), (128, 128, 3, 3), {"padding": 1, "stride": 2}),
    ("3x3, depthwise", (1, 128, 56, 56), (128, 1, 3, 3), {"padding": 1, "groups": 128}),
)


def paths() -> Table:
    """The path of each pass of some layers in float32, on the kernel that serves this thread."""
    table = Table("layer", *PASSES, title="paths in float32", title_justify="left")
    for allowed, layers in ((False, LAYERS), (True, LAYERS[1:2])):
        for name, input_size, weight_size, params in layers:
            with allow_winograd(allowed):
                found = plans(torch.empty(input_size), torch.empty(weight_size), **params)
            cells = (path_of([p for p in found if p.pass_name == each]) for each in PASSES)
            table.add_row(name + (", Winograd allowed" if allowed else ""), *cells)
    return table


def path_of(found: list[Plan]) -> str:
    """The path, or the paths of the phases and how many phases take each."""
    phases: Counter[str] = Counter()
    for plan in found:
        phases[plan.path] += plan.phases
    if phases.total() == 1:
        return next(iter(phases))
    return ", ".join(f"{count} {path}" for path, count in sorted(phases.items()))


def processor_name() -> str:
    """The model from /proc/cpuinfo; without that file, the name from Python's platform module."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
