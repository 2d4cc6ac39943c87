"""A launch: what the shape, the strides and the dtypes fix of it, made once and kept.

gather.py has those of forward and grad_input, reduction.py those of grad_weight. A call looks its
launches up, allocates its result and hands the tensors over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from convgrad_ext.triton import tiles
from convgrad_ext.triton.boxes import Operand, View
from convgrad_ext.triton.shapes import Correlation
from convgrad_ext.triton.tiles import ShapeClass

INTERPRETED = triton.knobs.runtime.interpret
KEPT = 1024
LARGEST_INT32 = 2**31 - 1
SUM_TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Launch:
    """One kernel, its grid and all arguments but the tensors of a call."""

    kernel: Any
    grid: tuple[int, int, int]
    arguments: Numbers
    reason: str = ""  # why this kernel
    shape: ShapeClass | None = None  # of which it has the tile
    views: dict[str, View] = field(default_factory=dict)  # of tensors that are read in boxes

    def __call__(self, **tensors: Tensor) -> None:
        if OBSERVERS:
            OBSERVERS[-1](self, lambda: self.run(tensors))
        else:
            self.run(tensors)

    def run(self, tensors: dict[str, Tensor]) -> None:
        """On the device of the tensors, which need not be the current one."""
        device = next(iter(tensors.values())).device
        described = {name: view.of(tensors[name]) for name, view in self.views.items()}
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            self.kernel[self.grid](**tensors | described, **self.arguments)


Observer = Callable[[Launch, Callable[[], None]], None]
OBSERVERS: list[Observer] = []


@contextmanager
def observed_by(observer: Observer) -> Iterator[list[Launch]]:
    """Within it, launches are handed to the observer, which calls them; all of them are listed."""
    seen: list[Launch] = []

    def observe(launch: Launch, call: Callable[[], None]) -> None:
        seen.append(launch)
        observer(launch, call)

    OBSERVERS.append(observe)
    try:
        yield seen
    finally:
        OBSERVERS.remove(observe)


def numbers_of(form: Correlation, device: torch.device, *names: str) -> Numbers:
    """The walks: the table of what differs from phase to phase, and what does not."""
    steps = {
        f"{name.upper()}_{axis}": step
        for name in names
        for axis, step in zip("HW", form.common(name), strict=True)
    }
    S_h, S_w = form.sources
    small = form.largest <= LARGEST_INT32
    table = torch.tensor(form.table, dtype=torch.int32 if small else torch.int64, device=device)
    return {"table": table, "C": form.C, "M": form.M, "S_h": S_h, "S_w": S_w, **steps}


def named(operand: Operand, name: str) -> Numbers:
    return {f"{name}_{axis}": s for axis, s in zip("nchw", operand.strides, strict=True)}


def types_of(dtype: torch.dtype, *operands: Operand) -> Numbers:
    """Offsets have 64 bits where they may need them: distances to the padding count as well."""
    large = any(2 * operand.reach > LARGEST_INT32 for operand in operands)
    return {
        "SUM": SUM_TYPES[tiles.sum_type(dtype)],
        "INDEX": tl.int64 if large else tl.int32,
    }


def products_of(dtype: torch.dtype, precision: str) -> Numbers:
    return {"PRECISION": precision, "UPCAST": INTERPRETED and dtype == torch.bfloat16}
