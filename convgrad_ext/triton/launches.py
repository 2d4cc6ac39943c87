"""The launches of a pass: what the shape, the strides and the dtypes fix, made once and kept.

A call then looks its launches up, allocates its result and hands the tensors over.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from convgrad_ext.triton import tiles
from convgrad_ext.triton.kernels.correlate import correlate
from convgrad_ext.triton.kernels.depthwise import correlate_groups, sum_weight_of_groups
from convgrad_ext.triton.kernels.weight import add_splits, sum_weight
from convgrad_ext.triton.shapes import Convolution, Correlation

INTERPRETED = triton.knobs.runtime.interpret
KEPT = 1024
LARGEST_INT32 = 2**31 - 1
SUM_TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Operand:
    """What a launch depends on of a tensor."""

    dtype: torch.dtype
    device: torch.device
    size: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def of(tensor: Tensor) -> Operand:
        return Operand(tensor.dtype, tensor.device, tuple(tensor.shape), tensor.stride())

    @property
    def is_large(self) -> bool:
        """Whether offsets may need 64 bits, with a margin for distances to the padding."""
        reach = sum(e * s for e, s in zip(self.size, self.strides, strict=True))
        return 2 * reach > LARGEST_INT32

    def named(self, name: str) -> Numbers:
        return {f"{name}_{axis}": s for axis, s in zip("nchw", self.strides, strict=True)}


@dataclass(frozen=True)
class Launch:
    """One kernel, its grid and all arguments but the tensors of a call."""

    kernel: Any
    grid: tuple[int, int, int]
    arguments: Numbers

    def __call__(self, **tensors: Tensor) -> None:
        """On the device of the tensors, which need not be the current one."""
        device = next(iter(tensors.values())).device
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            self.kernel[self.grid](**tensors, **self.arguments)


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


def types_of(dtype: torch.dtype, *operands: Operand) -> Numbers:
    large = any(operand.is_large for operand in operands)
    return {
        "SUM": SUM_TYPES[tiles.sum_type(dtype)],
        "INDEX": tl.int64 if large else tl.int32,
    }


def products_of(dtype: torch.dtype, precision: str) -> Numbers:
    return {"PRECISION": precision, "UPCAST": INTERPRETED and dtype == torch.bfloat16}


def strides_of_weight(conv: Convolution, weight: Operand, is_forward: bool) -> Numbers:
    """From group to group, and for a channel of the destination, one of the source and a tap."""
    from_filter, from_channel, *of_tap = weight.strides
    pair = (from_filter, from_channel) if is_forward else (from_channel, from_filter)
    numbers = (conv.C_out * from_filter, *pair, *of_tap)
    return {f"weight_{axis}": stride for axis, stride in zip("gmchw", numbers, strict=True)}


@dataclass(frozen=True)
class Gather:
    """The key of a launch of forward or grad_input."""

    conv: Convolution
    is_forward: bool
    source: Operand
    weight: Operand
    destination: Operand
    has_bias: bool
    precision: str

    @property
    def dtype(self) -> torch.dtype:
        return self.source.dtype


@lru_cache(KEPT)
def launch_of(gather: Gather) -> Launch:
    conv, source = gather.conv, gather.source
    form = Correlation.forward(conv) if gather.is_forward else Correlation.grad_input(conv)
    numbers = {
        "N": conv.N,
        "HAS_BIAS": gather.has_bias,
        **numbers_of(form, source.device, "step", "tap_step", "pixel_step", "weight_step"),
        **source.named("source"),
        **gather.destination.named("destination"),
        **strides_of_weight(conv, gather.weight, gather.is_forward),
        **types_of(gather.dtype, source, gather.weight, gather.destination),
    }
    if tiles.is_depthwise(conv):
        return over_groups(gather, form, numbers)
    return over_products(gather, form, numbers)


def over_groups(gather: Gather, form: Correlation, numbers: Numbers) -> Launch:
    tile, groups = tiles.DEPTHWISE, gather.conv.groups
    programs = triton.cdiv(gather.conv.N * form.most_pixels, tile.P)  # of a phase
    grid = (programs * len(form.phases), triton.cdiv(groups * form.M, tile.Q), 1)
    blocks = {
        "programs": programs,
        "groups": groups,
        "BLOCK_P": tile.P,
        "BLOCK_Q": tile.Q,
        **tile.options,
    }
    return Launch(correlate_groups, grid, numbers | blocks)


def over_products(gather: Gather, form: Correlation, numbers: Numbers) -> Launch:
    joins = form.C <= tiles.FEW_SOURCES
    steps = form.C * gather.conv.taps if joins else form.C
    tile = tiles.CORRELATE[tiles.kind_of(gather.dtype, gather.precision)].fitted(M=form.M, Q=steps)
    blocks_p = triton.cdiv(gather.conv.N * form.most_pixels, tile.P)
    programs = blocks_p * triton.cdiv(form.M, tile.M)  # of a phase
    grid = (programs * len(form.phases), gather.conv.groups, 1)
    blocks = {
        "programs": programs,
        "BLOCK_M": tile.M,
        "BLOCK_P": tile.P,
        "BLOCK_C": tile.Q,
        **tile.options,
    }
    how = {"JOINS_TAPS": joins, **products_of(gather.dtype, gather.precision)}
    return Launch(correlate, grid, numbers | how | blocks)


@dataclass(frozen=True)
class Reduction:
    """The key of the launches of grad_weight."""

    conv: Convolution
    input: Operand
    grad_output: Operand
    grad_weight: Operand
    precision: str

    @property
    def dtype(self) -> torch.dtype:
        return self.input.dtype

    @property
    def columns(self) -> int:
        """Of the sums of a filter."""
        return self.conv.C_in * self.conv.taps

    @property
    def splits(self) -> int:
        return tiles.splits_of(self.conv.output_pixels, self.size)

    @property
    def size(self) -> int:
        """Of all sums."""
        return self.conv.weight_size[0] * self.columns


@dataclass(frozen=True)
class WeightLaunches:
    """grad_weight: the sums of all splits, and their sum."""

    sum: Launch
    add: Launch
    size: tuple[int, int]  # of the splits' sums
    dtype: torch.dtype


@lru_cache(KEPT)
def launches_of(reduction: Reduction) -> WeightLaunches:
    conv, input, grad_output = reduction.conv, reduction.input, reduction.grad_output
    types = types_of(reduction.dtype, input, grad_output, reduction.grad_weight)
    if reduction.splits * reduction.size > LARGEST_INT32:
        types["INDEX"] = tl.int64
    numbers = {
        "N": conv.N,
        "pixels_of_split": triton.cdiv(conv.output_pixels, reduction.splits),
        **numbers_of(Correlation.forward(conv), input.device, "step", "tap_step"),
        **input.named("input"),
        **grad_output.named("grad"),
        **types,
    }
    sum_of = sums_over_groups if tiles.is_depthwise(conv) else sums_of_products
    return WeightLaunches(
        sum=sum_of(reduction, numbers),
        add=addition(reduction, types),
        size=(reduction.splits, reduction.size),
        dtype=tiles.sum_type(reduction.dtype),
    )


def sums_over_groups(reduction: Reduction, numbers: Numbers) -> Launch:
    tile, conv = tiles.DEPTHWISE, reduction.conv
    programs = triton.cdiv(conv.weight_size[0], tile.Q)  # of a column
    grid = (programs * reduction.columns, reduction.splits, 1)
    blocks = {
        "programs": programs,
        "groups": conv.groups,
        "BLOCK_P": tile.P,
        "BLOCK_Q": tile.Q,
        **tile.options,
    }
    return Launch(sum_weight_of_groups, grid, numbers | blocks)


def sums_of_products(reduction: Reduction, numbers: Numbers) -> Launch:
    conv = reduction.conv
    joins = conv.C_in <= tiles.FEW_SOURCES
    columns = reduction.columns if joins else conv.C_in
    tile = tiles.WEIGHT[tiles.kind_of(reduction.dtype, reduction.precision)].fitted(
        M=conv.C_out, Q=columns
    )
    blocks_q = triton.cdiv(columns, tile.Q) * (1 if joins else conv.taps)
    grid = (triton.cdiv(conv.C_out, tile.M) * blocks_q, conv.groups, reduction.splits)
    blocks = {"BLOCK_M": tile.M, "BLOCK_P": tile.P, "BLOCK_Q": tile.Q, **tile.options}
    how = {"JOINS_TAPS": joins, **products_of(reduction.dtype, reduction.precision)}
    return Launch(sum_weight, grid, numbers | how | blocks)


def addition(reduction: Reduction, types: Numbers) -> Launch:
    conv, tile = reduction.conv, tiles.ADDED
    size = reduction.size
    numbers = {
        "splits": reduction.splits,
        "size": size,
        "C": conv.C_in,
        "T_w": conv.weight_size[3],
        "taps": conv.taps,
        "BLOCK": tile.Q,
        **tile.options,
        **reduction.grad_weight.named("weight"),
        **types,
    }
    return Launch(add_splits, (triton.cdiv(size, tile.Q), 1, 1), numbers)
