"""The passes on a CUDA device, as kernels in Triton.

They are registered for the operators of csrc/ops.cpp where PyTorch has CUDA, and the first call
imports Triton. Nothing else differs from the CPU: derivatives, modules and transforms are those of
the operators.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

LIBRARY = torch.library.Library("convgrad_ext", "IMPL")
OPERATORS = ("conv2d", "conv2d_input", "conv2d_weight")


def register(dispatch_key: str) -> None:
    """Lets the operators' calls with tensors of this key run in Triton."""
    for name in OPERATORS:
        LIBRARY.impl(name, first_call(name), dispatch_key, allow_override=True)


def first_call(name: str) -> Callable[..., Tensor]:
    """The pass, whose module is imported when it runs."""

    def run(*args: Any) -> Tensor:
        result: Tensor = getattr(imported("passes"), name)(*args)
        return result

    return run


def imported(module: str) -> Any:
    """A module of this package, all of which but shapes.py import Triton."""
    try:
        return import_module(f"convgrad_ext.triton.{module}")
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ModuleNotFoundError(
            "convgrad_ext: convolutions of CUDA tensors need the package triton; "
            "pip install triton",
            name="triton",
        ) from error
