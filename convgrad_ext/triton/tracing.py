"""What torch.compile and its like see of an operator on CUDA: its kernels, where they can."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export._trace import custom_triton_ops_decomposition_disabled

from convgrad_ext.triton import passes
from convgrad_ext.triton.launches import NotInGraphError, recorded


def kernels_of(name: str, args: tuple[Any, ...]) -> Tensor | None:
    """Records the operator's kernels; None where the graph has to call the operator itself.

    It does for symbolic sizes, which would become numbers here, for kernels that read through
    descriptors, and in a program that torch.export makes, as PyTorch's own kernels do.
    """
    if custom_triton_ops_decomposition_disabled() or not is_static(args):
        return None
    try:
        with recorded():
            result: Tensor = getattr(passes, name)(*args)
    except NotInGraphError:
        return None
    return result


def is_static(args: tuple[Any, ...]) -> bool:
    """Whether all sizes and strides are numbers."""
    numbers: list[Any] = []
    for argument in args:
        if isinstance(argument, Tensor):
            numbers += [*argument.shape, *argument.stride(), argument.storage_offset()]
        elif isinstance(argument, (list, tuple)):
            numbers += argument
        else:
            numbers.append(argument)
    return not any(isinstance(number, torch.SymInt) for number in numbers)
