"""replacing_conv2d: the convolutions of a block of code, whichever layers call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode

from convgrad_ext.functional import conv2d

Function = TypeVar("Function", bound=Callable[..., Any])

ATEN = torch.ops.aten.conv2d
# torch.nn.functional.conv2d is torch.conv2d; graphs made by torch.export call the operators.
REPLACED = frozenset((torch.conv2d, ATEN, ATEN.default, ATEN.padding))

RUN_LATER = inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction


class ReplacingConv2d(TorchFunctionMode, ContextDecorator):
    """The mode; it has no state, so one object may be entered many times, by any thread."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return (conv2d if func in REPLACED else func)(*args, **(kwargs or {}))

    def __call__(self, func: Function) -> Function:
        if any(runs_later(func) for runs_later in RUN_LATER):
            raise TypeError(
                f"replacing_conv2d: {func.__name__} is a generator or a coroutine, which runs "
                "after a decorator's block has ended; write the with statement inside it"
            )
        return super().__call__(func)


def replacing_conv2d() -> ReplacingConv2d:
    """Runs every ``torch.nn.functional.conv2d`` in a ``with`` block as :func:`conv2d`.

    So does everything that calls it: ``torch.nn.Conv2d``, its subclasses, layers of other
    libraries, and the operator ``torch.ops.aten.conv2d`` in graphs of ``torch.export``. No module
    changes. Every call becomes one of ``convgrad_ext.conv2d`` with the same arguments: it never
    goes back to PyTorch's. A call that ``convgrad_ext.conv2d`` does not take, because of its device
    or its dtype, raises that function's error.

    It is a mode of ``torch.overrides``, active in the calling thread. A backward may run after
    the block. It is also a decorator: ``@replacing_conv2d()``. ``docs/converting.md`` lists the
    functions that run outside of such modes.

    Returns:
        A context manager that may be entered again, also inside itself.

    Raises:
        TypeError: for a function whose body runs after the decorator's block: "replacing_conv2d:
            images is a generator or a coroutine, which runs after a decorator's block has ended;
            write the with statement inside it".

    Example:
        >>> import torch, convgrad_ext
        >>> layer = torch.nn.Conv2d(1, 4, 3)
        >>> with convgrad_ext.replacing_conv2d():
        ...     output = layer(torch.zeros(2, 1, 9, 9))  # on the loops of this package
        >>> output.shape
        torch.Size([2, 4, 7, 7])

    Source: https://docs.pytorch.org/docs/stable/torch.overrides.html
    """
    return ReplacingConv2d()
