"""The layer that is explained: two axes, and its seven grids of whole numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from convgrad_ext import _C
from convgrad_ext.functional import conv2d, conv2d_input, conv2d_weight

LETTERS = "abcdefghijklmnop"  # of phases: at most four of rows times four of columns


@dataclass(frozen=True)
class AxisOfLayer:
    """One axis: pixels of the input, taps, and the hyperparameters in pixels."""

    name: str  # of a pixel of this axis: 'row' or 'column'
    input: int
    kernel: int
    stride: int
    padding: int  # on each side
    dilation: int

    @property
    def span(self) -> int:
        return self.dilation * (self.kernel - 1) + 1

    @property
    def padded(self) -> int:
        return self.input + 2 * self.padding

    def geometry(self) -> _C.Axis:
        sides = (self.padding, self.padding)
        return _C.Axis(self.input, self.kernel, self.stride, sides, self.dilation)

    def relation(self) -> str:
        """The input of output o under tap k."""
        stride = f"{self.stride}*o" if self.stride > 1 else "o"
        tap = f"{self.dilation}*k" if self.dilation > 1 else "k"
        return f"{stride}{signed(-self.padding)} + {tap}"


def signed(number: int) -> str:
    """A term of a sum; nothing for zero."""
    return f" {'-' if number < 0 else '+'} {abs(number)}" if number else ""


def check(axes: Sequence[AxisOfLayer]) -> None:
    """Raises a ValueError that names the arguments if the kernel does not fit."""
    for axis in axes:
        if axis.span > axis.padded:
            raise ValueError(
                f"a kernel of {axis.kernel} taps and dilation {axis.dilation} spans {axis.span} "
                f"{axis.name}s, but the padded input has {axis.padded}"
            )


def numbers_of(axes: Sequence[AxisOfLayer]) -> dict[str, Tensor]:
    """The seven grids, as matrices: three count from 1, four are the passes of them."""

    def counted(height: int, width: int) -> Tensor:
        numbers = torch.arange(1, 1 + height * width, dtype=torch.float64)
        return numbers.view(1, 1, height, width)

    params: dict[str, Any] = {
        name: tuple(getattr(axis, name) for axis in axes)
        for name in ("stride", "padding", "dilation")
    }
    input, weight = (counted(*(getattr(a, n) for a in axes)) for n in ("input", "kernel"))
    output = conv2d(input, weight, **params)
    grad = counted(*output.shape[2:])
    grids = {
        "input": input,
        "kernel": weight,
        "output": output,
        "grad_output": grad,
        "grad_input": conv2d_input(input.shape, weight, grad, **params),
        "grad_weight": conv2d_weight(input, weight.shape, grad, **params),
        "grad_bias": grad.sum().view(1, 1, 1, 1),
    }
    return {name: grid[0, 0] for name, grid in grids.items()}


def unread(axis: AxisOfLayer) -> dict[str, list[int]]:
    """Pixels that no output reads, by the reason."""
    geometry = axis.geometry()
    read = [i for i in range(axis.input) if geometry.meetings_of_input(i)]
    pixels: dict[str, list[int]] = {}
    for first in range(geometry.phases()):
        walk = geometry.inputs_of_phase(first)
        for i in {walk.pixel(d) for d in range(walk.D)} - {*read}:
            is_behind = not read or i > read[-1]
            reason = (
                "no tap meets" if not walk.T else "left over" if is_behind else "no output reads"
            )
            pixels.setdefault(reason, []).append(i)
    return {reason: sorted(numbers) for reason, numbers in pixels.items()}


def phases_of(axes: Sequence[AxisOfLayer]) -> Callable[[int, int], int] | None:
    """The number of a pixel's phase, whose pixels meet the same taps; None if there is one."""
    rows, columns = (axis.geometry() for axis in axes)
    if rows.phases() * columns.phases() == 1:
        return None
    of_row, of_column = (
        {
            walk.pixel(d): first
            for first in range(geometry.phases())
            for walk in [geometry.inputs_of_phase(first)]
            for d in range(walk.D)
        }
        for geometry in (rows, columns)
    )
    return lambda y, x: of_row[y] * columns.phases() + of_column[x]
