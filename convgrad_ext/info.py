"""``python -m convgrad_ext info``: the versions, the processor and the kernels."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import convgrad_ext
from convgrad_ext import _C


def run(console: Console) -> int:
    console.print(versions())
    console.print(kernels())
    return 0


def versions() -> Table:
    table = Table("", "version", title="convgrad_ext", title_justify="left")
    table.add_row("convgrad_ext", convgrad_ext.__version__)
    table.add_row("torch", torch.__version__)
    table.add_row("Python", platform.python_version())
    table.add_row("processor", f"{processor_name()}, {platform.machine()}")
    table.add_row("instructions", torch.backends.cpu.get_cpu_capability())
    table.add_row("threads", str(torch.get_num_threads()))
    table.add_row("CONVGRAD_ISA", os.environ.get("CONVGRAD_ISA") or "not set")
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


def processor_name() -> str:
    """The model from /proc/cpuinfo; without that file, the name from Python's platform module."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
