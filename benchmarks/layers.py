"""The layers that are measured, the work in each, and their operands.

The layers are the lines of shapes/, one file a class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import BadInputError, one_of
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
        """The nominal work of one pass: every output meets every tap; a multiply-add is two."""
        meetings = self.outputs_per_channel * self.K_h * self.K_w
        return 2e-9 * self.C_out * (self.C_in // self.groups) * meetings

    def effective_gflop(self) -> float:
        """The work that has to be done: a tap on padding multiplies nothing."""
        h, w = self.axes
        meetings = self.N * meetings_inside(h, self.K_h) * meetings_inside(w, self.K_w)
        return 2e-9 * self.C_out * (self.C_in // self.groups) * meetings

    def elements(self) -> int:
        """Numbers in input, weight and output, each of which a pass reads or writes."""
        return sum(map(prod, (self.input_size, self.weight_size, self.output_size)))

    def folded(self) -> Layer:
        """The layer that computes each image with its own weight: images become groups."""
        N, C_in, C_out, groups = self.N, self.C_in, self.C_out, self.groups
        return replace(self, N=1, C_in=N * C_in, C_out=N * C_out, groups=N * groups)


def meetings_inside(axis: Axis, kernel_size: int) -> int:
    """The pairs of an output and a tap that meet inside the image."""
    return sum(hi - lo for lo, hi in map(axis.outputs_of_tap, range(kernel_size)))


TINY = Layer("tiny", "tiny", 2, 4, 5, 5, 4, 3, 3, 1, 1, 1, 1, 1)


def class_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in SHAPES.glob("*.txt") if path.stem != QUICK))


def load_layers(classes: Sequence[str] | None = None, quick: bool = False) -> list[Layer]:
    """The layers of the named classes, or of all of them."""
    wanted = one_of("class", classes or class_names(), class_names())
    if quick:
        return [layer for layer in read_layers(SHAPES / "quick.txt") if layer.kind in wanted]
    return [layer for name in wanted for layer in read_layers(SHAPES / f"{name}.txt")]


def read_layers(path: Path) -> list[Layer]:
    lines = enumerate(path.read_text().splitlines(), start=1)
    return [
        parse_layer(line, f"{path.name}:{number}")
        for number, line in lines
        if line and not line.startswith("#")
    ]


def parse_layer(line: str, where: str) -> Layer:
    kind, name, *numbers = line.split()
    try:
        return Layer(kind, name, *map(int, numbers))
    except (TypeError, ValueError):
        raise BadInputError(f"{where} is not a layer of 14 columns: {line!r}") from None


@dataclass(frozen=True)
class Form:
    """How tensors are stored: what all rows of one run have in common."""

    dtype: torch.dtype
    memory_format: torch.memory_format


@dataclass(frozen=True)
class Operands:
    layer: Layer
    input: Tensor
    weight: Tensor
    bias: Tensor
    grad_output: Tensor
    direction: Tensor  # of the input's size: double backward multiplies grad_input with it

    def double(self) -> Operands:
        """The same numbers, already rounded, in float64."""
        tensors = self.input, self.weight, self.bias, self.grad_output, self.direction
        return Operands(self.layer, *(tensor.double() for tensor in tensors))


def make_operands(layer: Layer, form: Form) -> Operands:
    """Normal random numbers, the same ones in each process."""
    generator = torch.Generator().manual_seed(0)

    def normal(size: tuple[int, ...]) -> Tensor:
        tensor = torch.randn(size, dtype=form.dtype, generator=generator)
        return tensor.to(memory_format=form.memory_format) if len(size) == 4 else tensor

    return Operands(
        layer,
        input=normal(layer.input_size),
        weight=normal(layer.weight_size),
        bias=normal(layer.weight_size[:1]),
        grad_output=normal(layer.output_size),
        direction=normal(layer.input_size),
    )


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """The memory behind tensors, some of which may share it."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
