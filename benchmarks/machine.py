"""What stands beside every number: the machine, the versions and the settings."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import convgrad_ext
from benchmarks import allocator
from convgrad_ext import _C

# Environment variables that change how fast a side is.
INFLUENTIAL = ("CONVGRAD", "DNNL", "GOMP", "KMP", "MALLOC", "MKL", "OMP", "ONEDNN", "TORCH")


def describe() -> dict[str, Any]:
    return {
        "processor": processor(),
        "processors": os.cpu_count(),
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "versions": versions(),
        "allocator": allocator.settings(),
        "environment": {
            name: value for name, value in os.environ.items() if name.startswith(INFLUENTIAL)
        },
    }


def processor() -> str:
    """The name that the processor gives itself; its family too, for virtual ones hide the name."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    fields = dict(re.findall(r"^([^\t:]+)\t*: *(.*)$", info.read_text(), re.MULTILINE))
    name = fields.get("model name", platform.machine())
    numbers = [f"{key} {fields[key]}" for key in ("cpu family", "model") if key in fields]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def versions() -> dict[str, str]:
    onednn = re.search(r"MKL-DNN v([\d.]+)", torch.__config__.show())
    return {
        "convgrad_ext": convgrad_ext.__version__,
        "commit": commit(),
        "compiler": compiler(),
        "torch": torch.__version__,
        "oneDNN": onednn[1] if onednn else "none",
        "python": platform.python_version(),
    }


def compiler() -> str:
    """What compiled the extension; GCC does not put its name before its version."""
    return f"GCC {_C.compiler}" if _C.compiler[0].isdecimal() else _C.compiler


def load() -> float:
    """How many threads besides this one want a processor now; 0 where the system does not say.

    The usual load average would hold the build that came just before against this run.
    """
    path = Path("/proc/loadavg")
    if not path.exists():
        return 0.0
    running = []
    for _ in range(10):
        time.sleep(0.05)
        running.append(int(path.read_text().split()[3].partition("/")[0]) - 1)
    return max(0.0, mean(running))


def commit() -> str:
    """The commit, '-dirty' behind it if files were changed since."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    root = Path(__file__).parent
    try:
        found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
