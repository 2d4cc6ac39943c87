"""The layers that are measured, one line of shapes/ each, the work in them, and their operands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from convgrad_ext._C import Axis

SHAPES = Path(__file__).parent / "shapes"
QUICK = "quick"
MEMORY_FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
}

Size = tuple[int, int, int, int]


@dataclass(frozen=True)
class Layer:
    """One convolution; the fields are the columns of the files, in their order."""

    kind: str  # the column `class`
    name: str
    N: int
    C_in: int
    H_in: int
    W_in: int
    C_out: int
    K_h: int
    K_w: int
    stride: int
    padding_h: int
    padding_w: int
    dilation: int
    groups: int

    @property
    def axes(self) -> tuple[Axis, Axis]:
        return (
            Axis(self.H_in, self.K_h, self.stride, (self.padding_h,) * 2, self.dilation),
            Axis(self.W_in, self.K_w, self.stride, (self.padding_w,) * 2, self.dilation),
        )

    @property
    def input_size(self) -> Size:
        return self.N, self.C_in, self.H_in, self.W_in

    @property
    def weight_size(self) -> Size:
        return self.C_out, self.C_in // self.groups, self.K_h, self.K_w

    @property
    def output_size(self) -> Size:
        h, w = self.axes
        return self.N, self.C_out, h.output_extent, w.output_extent

    @property
    def arguments(self) -> tuple[Any, ...]:
        """stride, padding, dilation and groups, as F.conv2d takes them."""
        padding = self.padding_h, self.padding_w
        return (self.stride,) * 2, padding, (self.dilation,) * 2, self.groups

    @property
    def outputs_per_channel(self) -> int:
        N, _, H_out, W_out = self.output_size
        return N * H_out * W_out

    def gflop(self) -> float:
        """The nominal work of one pass: every output meets every tap."""
        return self.gflop_of(self.outputs_per_channel * self.K_h * self.K_w)

    def effective_gflop(self) -> float:
        """The work that has to be done: a tap on padding multiplies nothing."""
        h, w = self.axes
        return self.gflop_of(self.N * pairs_inside(h, self.K_h) * pairs_inside(w, self.K_w))

    def gflop_of(self, pairs: int) -> float:
        """The work of `pairs` of an output and a tap. A multiply-add counts as two operations."""
        return 2e-9 * self.C_out * (self.C_in // self.groups) * pairs

    def folded(self) -> Layer:
        """The layer that computes each image with its own weight: images become groups."""
        N, C_in, C_out, groups = self.N, self.C_in, self.C_out, self.groups
        return replace(self, N=1, C_in=N * C_in, C_out=N * C_out, groups=N * groups)


def pairs_inside(axis: Axis, kernel_size: int) -> int:
    """The pairs of an output and a tap that meet inside the image."""
    return sum(hi - lo for lo, hi in map(axis.outputs_of_tap, range(kernel_size)))


def class_names() -> list[str]:
    return sorted(path.stem for path in SHAPES.glob("*.txt") if path.stem != QUICK)


def load_layers(classes: Sequence[str] | None = None, quick: bool = False) -> list[Layer]:
    """The layers of the named classes, or of all of them."""
    wanted = classes or class_names()
    files = [QUICK] if quick else wanted
    lines = [line for file in files for line in (SHAPES / f"{file}.txt").read_text().splitlines()]
    columns = [line.split() for line in lines if line and not line.startswith("#")]
    layers = [Layer(kind, name, *map(int, numbers)) for kind, name, *numbers in columns]
    return [layer for layer in layers if layer.kind in wanted]


@dataclass(frozen=True)
class Form:
    """How tensors are stored: what all rows of one run have in common."""

    dtype: torch.dtype
    memory_format: torch.memory_format


class Operands(NamedTuple):
    layer: Layer
    input: Tensor
    weight: Tensor
    bias: Tensor
    grad_output: Tensor
    direction: Tensor  # of the input's size: double backward multiplies grad_input with it

    def double(self) -> Operands:
        """The same numbers, already rounded, in float64."""
        return Operands(self.layer, *(tensor.double() for tensor in self[1:]))


def make_operands(layer: Layer, form: Form) -> Operands:
    """Normal random numbers, the same ones in each process."""
    generator = torch.Generator().manual_seed(0)

    def normal(size: tuple[int, ...]) -> Tensor:
        tensor = torch.randn(size, dtype=form.dtype, generator=generator)
        return tensor.to(memory_format=form.memory_format) if len(size) == 4 else tensor

    sizes = layer.input_size, layer.weight_size, layer.weight_size[:1], layer.output_size
    return Operands(layer, *map(normal, (*sizes, layer.input_size)))
