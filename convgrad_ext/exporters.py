"""What conv2d does while ``torch.onnx`` exports it or ``torch.jit.trace`` records it."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.jit import TracerWarning, is_tracing  # type: ignore[attr-defined]

from convgrad_ext.autograd import Size, ops


def conv2d_operator() -> Any:
    """The operator of the pass conv2d, to be called with plain parameters.

    convgrad_ext.onnx is imported here, and not with the package, because torch.onnx takes a tenth
    of a second to load. An export by tracing then needs no further step.
    """
    if not (torch.compiler.is_exporting() or is_tracing()):
        return ops.conv2d
    if not torch.onnx.is_in_onnx_export():
        return ops.conv2d
    from convgrad_ext import onnx

    return onnx.conv2d if torch.compiler.is_exporting() else ops.conv2d


def numbers_in_trace(*sizes: Size) -> tuple[Size, ...]:
    """The sizes themselves, but for torch.jit.trace, which gives each extent as a tensor.

    A trace holds parameters as numbers: an operator's lists of integers take no tensors there.
    """
    if not is_tracing():
        return sizes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)  # see warn_if_padding_is_fixed
        return tuple(tuple(int(extent) for extent in size) for size in sizes)


def warn_if_padding_is_fixed(padding: Any, stride: Size) -> None:
    """The numbers of strided 'same' belong to the image that was traced, and to no other."""
    if padding == "same" and is_tracing() and stride != (1, 1):
        warnings.warn(
            f"convgrad_ext: padding='same' with stride={stride} depends on the image's size, and "
            f"the trace keeps what it is for this image; torch.jit.script and torch.export do not",
            TracerWarning,
            stacklevel=2,
        )
