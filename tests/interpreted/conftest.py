"""The CPU's operators run in Triton's interpreter, if the process has asked for it.

Triton reads TRITON_INTERPRET when a kernel is decorated. tests/test_triton.py starts a process.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

from convgrad_ext import triton

sys.path.append(str(Path(__file__).parents[2] / "examples"))

if os.environ.get("TRITON_INTERPRET") == "1":
    with warnings.catch_warnings():  # PyTorch says that the CPU has other loops
        warnings.simplefilter("ignore")
        triton.register("CPU")
else:
    collect_ignore_glob = ["test_*.py"]
