"""Whether 3x3 kernels may be computed with fewer multiplications and less precisely.

The environment variable ``CONVGRAD_WINOGRAD`` sets the state when the package is imported: ``1``
allows it, ``0`` does not. Another value raises a ValueError.
"""

from __future__ import annotations

from types import TracebackType

from convgrad_ext import _C

_C.winograd_allowed()  # reads the environment: the import raises the error of a bad value


class allow_winograd:  # noqa: N801  called as a function, like torch.set_grad_enabled
    """Allows or forbids Winograd's F(2x2, 3x3) for float32 and float64; it is forbidden at first.

    It takes 16 multiplications where a 3x3 kernel of stride 1 has 36, with any dilation and in the
    phases of ``grad_input`` that have three taps on each axis. Its error is relative to a region of
    4x4 pixels times the whole kernel. The error of the default loops is relative to the products of
    the element itself. So operands without a negative number may give a small negative result, and
    an infinity reaches neighbours. docs/winograd.md lists these cases.

    It takes effect at once, for all threads, until the next call. In a ``with`` statement it ends
    with the block. Whether a layer uses it depends on its input channels, its
    spatial sizes and its dtype, and not on the size of the batch or on the number of filters.

    Args:
        allowed: True or False.

    Raises:
        TypeError: "allow_winograd: allowed must be True or False, but got 'yes'".

    Example:
        >>> import torch, convgrad_ext
        >>> with convgrad_ext.allow_winograd(True):
        ...     convgrad_ext.conv2d(torch.ones(1, 64, 16, 16), torch.ones(64, 64, 3, 3)).shape
        torch.Size([1, 64, 14, 14])
        >>> convgrad_ext.winograd_allowed()
        False

    Source: A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308.
    """

    def __init__(self, allowed: bool) -> None:
        if not isinstance(allowed, bool):
            raise TypeError(f"allow_winograd: allowed must be True or False, but got {allowed!r}")
        self.previous = _C.allow_winograd(allowed)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _C.allow_winograd(self.previous)


def winograd_allowed() -> bool:
    """Whether :func:`allow_winograd` or the environment allows Winograd's loops.

    Example:
        >>> import convgrad_ext
        >>> convgrad_ext.winograd_allowed()
        False

    Source: csrc/cpu/winograd/choice.h.
    """
    return _C.winograd_allowed()
