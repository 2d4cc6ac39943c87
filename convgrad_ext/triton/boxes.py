"""Where a tensor can be read in boxes of pixels, and what its descriptor says: kernels/boxes.py."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from triton.tools.tensor_descriptor import TensorDescriptor

from convgrad_ext.triton.shapes import Pair
from convgrad_ext.triton.tiles import covering

ALIGNMENT = 16  # bytes, of what a descriptor begins at and steps by
SMALLEST_BLOCK = 16  # of a product
LARGEST_INT32 = 2**31 - 1

Box = tuple[int, int, int]  # images, rows and columns of a tile


def is_aligned(tensor: Tensor) -> bool:
    """Of a tensor without data, its offset counts: the memory itself would be."""
    if isinstance(tensor, (FakeTensor, FunctionalTensor)) or tensor.device.type == "meta":
        return int(tensor.storage_offset()) * tensor.dtype.itemsize % ALIGNMENT == 0
    return tensor.data_ptr() % ALIGNMENT == 0


@dataclass(frozen=True)
class Operand:
    """What a launch depends on of a tensor."""

    dtype: torch.dtype
    device: torch.device
    size: tuple[int, ...]
    strides: tuple[int, ...]
    is_aligned: bool = True

    @staticmethod
    def of(tensor: Tensor) -> Operand:
        return Operand(
            tensor.dtype,
            tensor.device,
            tuple(tensor.shape),
            tensor.stride(),
            is_aligned(tensor),
        )

    @property
    def reach(self) -> int:
        """One more than the offset of the farthest element, at least."""
        return sum(e * s for e, s in zip(self.size, self.strides, strict=True))


@dataclass(frozen=True)
class View:
    """A tensor as its descriptor has it, and the box that is read at a time."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    block: tuple[int, ...]

    def of(self, tensor: Tensor) -> TensorDescriptor:
        """A copy of one that Triton has checked: each check takes microseconds."""
        descriptor = copy(self.checked)
        descriptor.base = tensor
        return descriptor

    @cached_property
    def checked(self) -> TensorDescriptor:
        extents = (list(numbers) for numbers in (self.shape, self.strides, self.block))
        return TensorDescriptor(torch.empty(0, dtype=self.dtype), *extents)


def stepped_view(operand: Operand, step: Pair, box: Box, channels: int) -> View | None:
    """Every step-th pixel as a neighbour: [N, H/s, s, W/s, s*C]. None if these are no boxes."""
    N, C, H, W = operand.size
    by_n, by_c, by_h, by_w = operand.strides
    (s_h, s_w), (b_n, b_h, b_w) = step, box
    if channels < SMALLEST_BLOCK or H % s_h or W % s_w or (s_w > 1 and by_w != C):
        return None
    shape = (N, H // s_h, s_h, W // s_w, s_w * C)
    strides = (by_n, s_h * by_h, by_h, s_w * by_w, by_c if C > 1 else 1)
    return aligned(operand, shape, strides, (b_n, b_h, 1, b_w, channels))


def weight_view(operand: Operand, filters: int, channels: int) -> View | None:
    """[C_out, K_h, K_w, C_in] of a weight whose channels are neighbours, or None."""
    C_out, C_in, K_h, K_w = operand.size
    by_filter, by_channel, by_row, by_column = operand.strides
    strides = (by_filter, by_row, by_column, by_channel if C_in > 1 else 1)
    return aligned(operand, (C_out, K_h, K_w, C_in), strides, (filters, 1, 1, channels))


def aligned(
    operand: Operand, shape: Sequence[int], strides: Sequence[int], block: Sequence[int]
) -> View | None:
    """The view, if a descriptor can have it: its steps are not zero, and end on multiples."""
    step = ALIGNMENT // operand.dtype.itemsize
    used = [1]  # from the innermost axis outwards
    for extent, inner, stride in zip(shape[-2::-1], shape[:0:-1], strides[-2::-1], strict=True):
        # An axis of one pixel has any stride; here the one behind all that is inside of it.
        used.append(stride if extent > 1 else -(-used[-1] * inner // step) * step)
    fits = operand.is_aligned and strides[-1] == 1 and 0 < max(shape) <= LARGEST_INT32
    if not fits or any(s == 0 or s % step for s in used[1:]):
        return None
    return View(operand.dtype, tuple(shape), tuple(reversed(used)), tuple(block))


def complete(views: dict[str, View | None]) -> dict[str, View] | None:
    """None if one of them is none."""
    found = {name: view for name, view in views.items() if view is not None}
    return found if len(found) == len(views) else None


def block_of(extent: int, most: int, may_pass: bool) -> int:
    """The largest block up to `most` that ends where the extent does, or may pass its end."""
    block = min(most, covering(extent))
    while extent % block and not may_pass:
        block //= 2
    return block


def box_of(pixels: int, extents: tuple[int, int, int]) -> Box:
    """`pixels` of images, rows and columns in powers of two, of which the fewest boxes cover all.

    Among these, the one of the longest rows: its memory has the fewest gaps.
    """
    powers = [1 << n for n in range(pixels.bit_length())]
    boxes = [(n, h, pixels // (n * h)) for n in powers for h in powers if n * h <= pixels]

    def cost(box: Box) -> tuple[int, int, int]:
        return prod(blocks_of(box, extents)), -box[2], -box[1]

    return min(boxes, key=cost)


def blocks_of(box: Box, extents: tuple[int, int, int]) -> list[int]:
    """How many boxes cover each extent."""
    return [-(-extent // block) for extent, block in zip(extents, box, strict=True)]


def blocks_named(box: Box) -> dict[str, int]:
    return {f"BLOCK_{axis}": block for axis, block in zip("NHW", box, strict=True)}
