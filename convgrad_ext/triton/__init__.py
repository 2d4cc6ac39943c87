"""The passes on a CUDA device, as kernels in Triton.

They are registered for the operators of csrc/ops.cpp where PyTorch has CUDA, and the first call
imports Triton. Nothing else differs from the CPU: derivatives, modules and transforms are those of
the operators.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.functional_tensor import FunctionalTensorMode

LIBRARY = torch.library.Library("convgrad_ext", "IMPL")
OPERATORS = ("conv2d", "conv2d_input", "conv2d_weight")


def register(dispatch_key: str) -> None:
    """Lets the operators' calls with tensors of this key run in Triton, and compilers see it."""
    for name in OPERATORS:
        LIBRARY.impl(name, first_call(name), dispatch_key, allow_override=True)
        if dispatch_key == "CUDA":
            show_kernels(name)


def first_call(name: str) -> Callable[..., Tensor]:
    """The pass, whose module is imported when it runs."""

    @cache
    def found() -> Callable[..., Tensor]:
        return cast("Callable[..., Tensor]", getattr(imported("passes"), name))

    return lambda *args: found()(*args)


def show_kernels(name: str) -> None:
    """torch.compile calls this where it would record the operator."""

    def trace(mode: Any, operator: Any, types: Any, args: Any, kwargs: Any = None) -> Any:
        if all(tensor.is_cuda for tensor in args if isinstance(tensor, Tensor)):
            with mode:
                result = imported("tracing").kernels_of(name, args)
            if result is not None:
                return result
        return mode.__torch_dispatch__(operator, types, args, kwargs)

    torch.library.register_torch_dispatch(
        f"convgrad_ext::{name}", FunctionalTensorMode, trace, lib=LIBRARY
    )


def imported(module: str) -> Any:
    """A module of this package, all of which but shapes.py import Triton."""
    try:
        return import_module(f"convgrad_ext.triton.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "triton":
            raise
        raise ModuleNotFoundError(
            "convgrad_ext: convolutions of CUDA tensors need the package triton; "
            "pip install triton",
            name="triton",
        ) from error
