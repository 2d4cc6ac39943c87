"""Which loops run: the kernels of this build and the choice between them.

The environment variable ``CONVGRAD_ISA`` names the fastest kernel that may run, ``avx512_bf16``
(bfloat16 alone), ``avx512``, ``avx2`` or ``baseline``. Faster ones then count as not available. It
is read once, when the package is imported. A kernel that does not exist, or not on this processor,
raises a ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from convgrad_ext import _C

_C.kernels()  # builds the registry, so that the import raises the error of a bad CONVGRAD_ISA


def available_kernels() -> tuple[str, ...]:
    """The names of the kernels that run on this processor, fastest first.

    A dtype is computed by the first kernel that takes it. ``'reference'``, the readable loops,
    takes every dtype. With the environment variable ``CONVGRAD_ISA`` the first is the kernel that
    the variable names.

    Example:
        >>> import convgrad_ext
        >>> convgrad_ext.available_kernels()[-1]
        'reference'

    Source: the registry in csrc/registry.cpp.
    """
    return tuple(kernel["name"] for kernel in _C.kernels() if kernel["available"])


@contextmanager
def use_kernel(name: str) -> Iterator[None]:
    """Runs the calling thread's convolutions on kernel `name` inside a ``with`` block.

    A dtype that the kernel does not take is computed by the first kernel that does. The choice is
    made when a pass runs: a backward outside of the block runs on the default kernel.

    Args:
        name: one of :func:`available_kernels`.

    Raises:
        ValueError: "use_kernel: name must be one of 'reference', but got 'fast'".
        TypeError: "use_kernel: name must be a string, but got None".

    Example:
        >>> import torch, convgrad_ext
        >>> with convgrad_ext.use_kernel("reference"):
        ...     convgrad_ext.conv2d(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).item()
        4.0

    Source: the registry in csrc/registry.cpp.
    """
    if not isinstance(name, str):
        raise TypeError(f"use_kernel: name must be a string, but got {name!r}")
    previous = _C.select_kernel(name)
    try:
        yield
    finally:
        _C.select_kernel(previous)
