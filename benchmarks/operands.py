"""The tensors that a layer is measured with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.layers import Layer

MEMORY_FORMATS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """The memory behind tensors, some of which may share it."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@dataclass(frozen=True)
class Form:
    """How tensors are held: what all rows of one run have in common."""

    dtype: torch.dtype
    memory_format: torch.memory_format
    device: str


@dataclass(frozen=True)
class Operands:
    layer: Layer
    input: Tensor
    weight: Tensor
    bias: Tensor
    grad_output: Tensor
    direction: Tensor  # of the input's size: what double backward multiplies grad_input with

    def double(self) -> Operands:
        """The same numbers, already rounded, in float64."""
        tensors = self.input, self.weight, self.bias, self.grad_output, self.direction
        return Operands(self.layer, *(tensor.double() for tensor in tensors))


def make_operands(layer: Layer, form: Form) -> Operands:
    """Normal random numbers, the same ones in each process."""
    generator = torch.Generator(form.device).manual_seed(0)

    def normal(size: tuple[int, ...]) -> Tensor:
        tensor = torch.randn(size, dtype=form.dtype, device=form.device, generator=generator)
        return tensor.to(memory_format=form.memory_format) if len(size) == 4 else tensor

    return Operands(
        layer,
        input=normal(layer.input_size),
        weight=normal(layer.weight_size),
        bias=normal(layer.weight_size[:1]),
        grad_output=normal(layer.output_size),
        direction=normal(layer.input_size),
    )
