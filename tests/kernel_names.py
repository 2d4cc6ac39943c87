"""The kernels of this processor, fastest first."""

from __future__ import annotations

import torch

from convgrad_ext import _C, available_kernels

REFERENCE = "reference"


def kernels_of(dtype: torch.dtype) -> list[str]:
    """Those that take the dtype."""
    taken = {kernel["name"]: kernel["dtypes"] for kernel in _C.kernels()}
    return [name for name in available_kernels() if dtype in taken[name]]


KERNELS = kernels_of(torch.float32)
FAST = [name for name in KERNELS if name != REFERENCE]  # one for each instruction set

# Of bfloat16 alone, on processors that add products of pairs; none elsewhere.
PAIRS = [name for name in available_kernels() if name not in KERNELS]
