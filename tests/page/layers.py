"""Layers of the page, and what torch and the extension say of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from convgrad_ext import _C

Meeting = tuple[int, int, int]  # pixel, output, tap
Grids = dict[str, Tensor]  # [planes, height, width]
RESULT_OF = {"input": "grad_input", "kernel": "grad_weight", "grad_output": "output"}


@dataclass(frozen=True)
class Axis:
    input: int
    kernel: int
    stride: int = 1
    before: int = 0
    behind: int = 0
    dilation: int = 1

    def geometry(self) -> _C.Axis:
        sides = (self.before, self.behind)
        return _C.Axis(self.input, self.kernel, self.stride, sides, self.dilation)

    def met_by(self, index: str, number: int) -> list[Meeting]:
        """By the view of the extension that owns a pixel (i), an output (o) or a tap (k)."""
        geometry = self.geometry()
        if index == "i":
            return [(number, o, k) for k, o in geometry.meetings_of_input(number)]
        if index == "o":
            return [
                (self.pixel(number, k), number, k) for k in range(*geometry.taps_of_output(number))
            ]
        return [(self.pixel(o, number), o, number) for o in range(*geometry.outputs_of_tap(number))]

    def pixel(self, o: int, k: int) -> int:
        return o * self.stride - self.before + k * self.dilation


@dataclass(frozen=True)
class Layer:
    rows: Axis
    columns: Axis
    channels: int = 1
    filters: int = 1
    groups: int = 1

    @property
    def axes(self) -> tuple[Axis, Axis]:
        return self.rows, self.columns

    def link(self, **more: object) -> str:
        """The part of the page's address behind '#'."""
        parts = {name: f"{getattr(self.rows, name)},{getattr(self.columns, name)}" for name in AXIS}
        parts |= {name: getattr(self, name) for name in ("channels", "filters", "groups")}
        return "&".join(f"{name}={value}" for name, value in (parts | more).items())

    def pairs(self) -> list[tuple[int, int]]:
        """Filter and channel of each plane of the kernel."""
        per_group = self.channels // self.groups
        groups = [f // (self.filters // self.groups) for f in range(self.filters)]
        return [(f, g * per_group + c) for f, g in enumerate(groups) for c in range(per_group)]

    def operands(self) -> Grids:
        """Counted as the page counts them."""
        outputs = [axis.geometry().output_extent for axis in self.axes]
        sizes = {
            "input": (self.channels, self.rows.input, self.columns.input),
            "kernel": (len(self.pairs()), self.rows.kernel, self.columns.kernel),
            "grad_output": (self.filters, *outputs),
        }
        return {
            name: torch.arange(1.0, 1 + torch.Size(size).numel()).double().view(size)
            for name, size in sizes.items()
        }

    def grids(self, operands: Grids | None = None) -> Grids:
        """All seven, by torch's convolution and autograd."""
        given = operands or self.operands()
        leaves = [
            given["input"][None],
            self.weight(given["kernel"]),
            torch.zeros(self.filters).double(),
        ]
        leaves = [leaf.clone().requires_grad_() for leaf in leaves]
        rows, columns = self.axes
        padded = F.pad(leaves[0], (columns.before, columns.behind, rows.before, rows.behind))
        stride, dilation = (rows.stride, columns.stride), (rows.dilation, columns.dilation)
        output = F.conv2d(padded, *leaves[1:], stride, 0, dilation, self.groups)
        gradients = torch.autograd.grad(output, leaves, given["grad_output"][None])
        return given | {
            "output": output[0].detach(),
            "grad_input": gradients[0][0],
            "grad_weight": gradients[1].flatten(0, 1),
            "grad_bias": gradients[2].view(1, 1, -1),
        }

    def weight(self, planes: Tensor) -> Tensor:
        return planes.view(self.filters, -1, *planes.shape[1:])

    def lit_by(self, cell: str) -> set[str]:
        """The cells that meet a cell."""
        grid, plane, y, x = split(cell)
        index = (
            "iko"[("input", "kernel", "output").index(kind_of(grid))] if grid != "grad_bias" else ""
        )
        if grid == "grad_bias":
            return {cell, *self.of_filter(x)}
        lit = set()
        for pair, (f, c) in enumerate(self.pairs()):
            if plane != {"i": c, "k": pair, "o": f}[index]:
                continue
            for h, w in product(self.rows.met_by(index, y), self.columns.met_by(index, x)):
                lit |= {f"{g}:{c},{h[0]},{w[0]}" for g in ("input", "grad_input")}
                lit |= {f"{g}:{f},{h[1]},{w[1]}" for g in ("output", "grad_output")}
                lit |= {f"{g}:{pair},{h[2]},{w[2]}" for g in ("kernel", "grad_weight")}
        if index == "o":
            lit |= {f"{g}:{plane},{y},{x}" for g in ("output", "grad_output")}
            lit.add(f"grad_bias:0,0,{plane}")
        return lit

    def of_filter(self, f: int) -> Iterator[str]:
        outputs = [range(axis.geometry().output_extent) for axis in self.axes]
        for grid, y, x in product(("output", "grad_output"), *outputs):
            yield f"{grid}:{f},{y},{x}"


AXIS = tuple(Axis.__dataclass_fields__)


def kind_of(grid: str) -> str:
    """The operand with the same cells."""
    return {"grad_input": "input", "grad_weight": "kernel", "grad_output": "output"}.get(grid, grid)


def split(cell: str) -> tuple[str, int, int, int]:
    grid, place = cell.split(":")
    plane, y, x = map(int, place.split(","))
    return grid, plane, y, x


NAMED = {
    "one_cell": Layer(Axis(1, 1), Axis(1, 1)),
    "the_4x4_image": Layer(Axis(4, 2, stride=2), Axis(4, 2, stride=2)),
    "axes_differ": Layer(Axis(7, 3, 2, 1, 1), Axis(6, 2, 1, 1, 1, dilation=2)),
    "sides_differ": Layer(Axis(5, 3, 2, 0, 3), Axis(4, 2, 3, 4, 1)),
    "a_row_left_over": Layer(Axis(6, 3, stride=2), Axis(5, 3)),
    "phases_without_taps": Layer(
        Axis(7, 2, stride=2, dilation=2), Axis(5, 2, stride=4, dilation=4)
    ),
    "outputs_in_the_padding": Layer(Axis(2, 1, 1, 3, 3), Axis(3, 2, 2, 5, 4)),
    "kernel_as_large_as_the_image": Layer(Axis(5, 5), Axis(7, 7)),
    "channels_and_filters": Layer(Axis(4, 2, 2, 1, 0), Axis(3, 2, 1, 1, 1), channels=2, filters=3),
    "groups": Layer(Axis(3, 2), Axis(4, 2, 2), channels=2, filters=2, groups=2),
    "three_groups": Layer(Axis(3, 3, 1, 1, 1), Axis(3, 1, 2), channels=3, filters=3, groups=3),
    "most_of_all": Layer(Axis(12, 7, 4, 5, 5, 1), Axis(12, 7, 3, 5, 5, 3)),
}


def random_axis(random_: random.Random) -> Axis:
    """Constructed to fit: the padding grows until the kernel does."""
    kernel, stride, dilation = (random_.randint(1, most) for most in (3, 4, 3))
    size, before, behind = (random_.randint(low, most) for low, most in ((1, 5), (0, 2), (0, 2)))
    short = dilation * (kernel - 1) + 1 - size - before - behind
    if short > 0:
        size = min(12, size + short)
    return Axis(size, kernel, stride, before, behind, dilation)


def fifty() -> dict[str, Layer]:
    random_ = random.Random(14)
    layers = dict(NAMED)
    while len(layers) < 50:
        groups = random_.choice((1, 1, 1, 2))
        channels, filters = (groups if groups > 1 else random_.choice((1, 1, 2)) for _ in range(2))
        axes = random_axis(random_), random_axis(random_)
        layers[f"random_{len(layers)}"] = Layer(*axes, channels, filters, groups)
    return layers
