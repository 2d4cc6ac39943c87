"""A launch: what the shape, the strides and the dtypes fix of it, made once and kept.

gather.py has those of forward and grad_input, reduction.py those of grad_weight. A call looks its
launches up, allocates its result and hands the tensors over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from convgrad_ext.triton import tiles
from convgrad_ext.triton.boxes import LARGEST_INT32, Operand, View
from convgrad_ext.triton.shapes import Correlation
from convgrad_ext.triton.tiles import ShapeClass

INTERPRETED = triton.knobs.runtime.interpret
SUM_TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """What differs from phase to phase, on the device."""

    rows: tuple[tuple[int, ...], ...]
    dtype: torch.dtype
    device: torch.device

    def made(self) -> Tensor:
        return torch.tensor(self.rows, dtype=self.dtype, device=self.device)

    @cache  # noqa: B019 - for good: a CUDA graph reads it at every replay, and it is small
    def kept(self) -> Tensor:
        return self.made()


class NotInGraphError(RuntimeError):
    """A graph does not carry the descriptors of boxes."""


@dataclass(frozen=True)
class Launch:
    """One kernel, its grid and all arguments but the tensors of a call."""

    kernel: Any
    grid: tuple[int, int, int]
    arguments: Numbers
    reason: str = ""  # why this kernel
    shape: ShapeClass | None = None  # of which it has the tile
    views: dict[str, View] = field(default_factory=dict)  # of tensors that are read in boxes
    table: Table | None = None
    remade: Callable[[], Launch] | None = None  # with the tile that its shape class has now

    def __call__(self, **tensors: Tensor) -> None:
        if RECORDING.get():
            self.record(tensors)
        elif OBSERVERS:
            OBSERVERS[-1](self, tensors)
        else:
            self.run(tensors)

    def run(self, tensors: dict[str, Tensor]) -> None:
        """On the device of the tensors, which need not be the current one."""
        described: Numbers = {name: view.of(tensors[name]) for name, view in self.views.items()}
        if self.table is not None:
            described["table"] = self.table.kept()
        with on_device_of(tensors):
            self.kernel[self.grid](**tensors | described, **self.arguments)

    def record(self, tensors: dict[str, Tensor]) -> None:
        """Into the graph that is being traced, where a compiler sees the kernel."""
        if self.views:
            raise NotInGraphError
        if self.table is not None:
            tensors = tensors | {"table": self.table.made()}
        # A graph takes the numbers of warps and stages, but not this option.
        arguments = {n: v for n, v in self.arguments.items() if n != "enable_fp_fusion"}
        wrap_triton(self.kernel)[self.grid](**tensors, **arguments)


def on_device_of(tensors: dict[str, Tensor]) -> AbstractContextManager[Any]:
    device = next(iter(tensors.values())).device
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


# Whether this thread traces a graph.
RECORDING = ContextVar("RECORDING", default=False)


@contextmanager
def recorded() -> Iterator[None]:
    """Within it, this thread's launches become nodes of the graph that is being traced."""
    before = RECORDING.set(True)
    try:
        yield
    finally:
        RECORDING.reset(before)


# Of all threads: a backward has its own.
Observer = Callable[[Launch, dict[str, Tensor]], None]
OBSERVERS: list[Observer] = []


@contextmanager
def observed_by(observer: Observer) -> Iterator[list[Launch]]:
    """Within it, launches are handed to the observer, which runs them; all of them are listed."""
    seen: list[Launch] = []

    def observe(launch: Launch, tensors: dict[str, Tensor]) -> None:
        seen.append(launch)
        observer(launch, tensors)

    OBSERVERS.append(observe)
    try:
        yield seen
    finally:
        OBSERVERS.remove(observe)


def table_of(form: Correlation, device: torch.device) -> Table:
    dtype = torch.int32 if form.largest <= LARGEST_INT32 else torch.int64
    return Table(tuple(map(tuple, form.table)), dtype, device)


def numbers_of(form: Correlation, *names: str) -> Numbers:
    """Of the walks, what does not differ from phase to phase."""
    steps = {
        f"{name.upper()}_{axis}": step
        for name in names
        for axis, step in zip("HW", form.common(name), strict=True)
    }
    S_h, S_w = form.sources
    return {"C": form.C, "M": form.M, "S_h": S_h, "S_w": S_w, **steps}


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
