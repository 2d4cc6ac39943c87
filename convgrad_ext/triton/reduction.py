"""The launches of grad_weight: sums of splits of the pixels, and their sum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
import triton
import triton.language as tl

from convgrad_ext.triton import boxes, tiles
from convgrad_ext.triton.boxes import LARGEST_INT32, Operand
from convgrad_ext.triton.kernels.boxes import sum_weight_boxes
from convgrad_ext.triton.kernels.depthwise import sum_weight_of_groups
from convgrad_ext.triton.kernels.weight import add_splits, sum_weight
from convgrad_ext.triton.launches import (
    Launch,
    Numbers,
    named,
    numbers_of,
    products_of,
    table_of,
    types_of,
)
from convgrad_ext.triton.shapes import Convolution, Correlation
from convgrad_ext.triton.tiles import ShapeClass


@dataclass(frozen=True)
class Reduction:
    """All that the launches of grad_weight depend on."""

    conv: Convolution
    input: Operand
    grad_output: Operand
    grad_weight: Operand
    precision: str
    architecture: int

    @property
    def dtype(self) -> torch.dtype:
        return self.input.dtype

    @property
    def kind(self) -> str:
        return tiles.kind_of(self.dtype, self.precision)

    def shape(self, kernel: Any, M: int, Q: int) -> ShapeClass:
        pixels = self.conv.output_pixels
        return ShapeClass.of(kernel.__name__, self.architecture, self.kind, M, Q, pixels)

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

    @property
    def types(self) -> Numbers:
        types = types_of(self.dtype, self.input, self.grad_output, self.grad_weight)
        large = self.splits * self.size > LARGEST_INT32
        return types | {"INDEX": tl.int64} if large else types


@dataclass(frozen=True)
class WeightLaunches:
    """grad_weight: the sums of all splits, and their sum."""

    sum: Launch
    add: Launch
    size: tuple[int, int]  # of the splits' sums
    dtype: torch.dtype


def launches_of(reduction: Reduction) -> WeightLaunches:
    return WeightLaunches(
        sum=launch_of_sums(reduction),
        add=addition(reduction),
        size=(reduction.splits, reduction.size),
        dtype=tiles.sum_type(reduction.dtype),
    )


def launch_of_sums(reduction: Reduction) -> Launch:
    form = Correlation.forward(reduction.conv)
    walks = numbers_of(form, "step", "tap_step")
    if tiles.is_depthwise(reduction.conv):
        launch = sums_over_groups(reduction, walks)
    else:
        launch = sums_over_boxes(reduction, form, walks) or sums_of_products(reduction, walks)
    table = table_of(form, reduction.input.device)
    return replace(launch, table=table, remade=lambda: launch_of_sums(reduction))


def offsets_of(reduction: Reduction) -> Numbers:
    """What a kernel without descriptors finds the elements and the split by."""
    return {
        "N": reduction.conv.N,
        "pixels_of_split": triton.cdiv(reduction.conv.output_pixels, reduction.splits),
        **named(reduction.input, "input"),
        **named(reduction.grad_output, "grad"),
        **reduction.types,
    }


def sums_over_groups(reduction: Reduction, walks: Numbers) -> Launch:
    conv = reduction.conv
    shape = reduction.shape(sum_weight_of_groups, conv.weight_size[0], reduction.columns)
    tile = tiles.tile_of(shape)
    programs = triton.cdiv(conv.weight_size[0], tile.Q)  # of a column
    grid = (programs * reduction.columns, reduction.splits, 1)
    blocks = {"programs": programs, "groups": conv.groups, "BLOCK_P": tile.P, "BLOCK_Q": tile.Q}
    numbers = walks | offsets_of(reduction) | blocks | tile.options
    return Launch(sum_weight_of_groups, grid, numbers, tiles.FEW_CHANNELS, shape)


def sums_of_products(reduction: Reduction, walks: Numbers) -> Launch:
    conv = reduction.conv
    joins = conv.C_in <= tiles.FEW_SOURCES
    columns = reduction.columns if joins else conv.C_in
    shape = reduction.shape(sum_weight, conv.C_out, columns)
    tile = tiles.tile_of(shape).fitted(M=conv.C_out, Q=columns)
    blocks_q = triton.cdiv(columns, tile.Q) * (1 if joins else conv.taps)
    grid = (triton.cdiv(conv.C_out, tile.M) * blocks_q, conv.groups, reduction.splits)
    blocks = {
        "BLOCK_M": tile.M,
        "BLOCK_P": tile.P,
        "BLOCK_Q": tile.Q,
        "JOINS_TAPS": joins,
    }
    products = products_of(reduction.dtype, reduction.precision)
    numbers = walks | offsets_of(reduction) | blocks | products | tile.options
    reason = tiles.JOINED if joins else tiles.BY_TAPS
    return Launch(sum_weight, grid, numbers, reason, shape)


def sums_over_boxes(reduction: Reduction, form: Correlation, walks: Numbers) -> Launch | None:
    """None where an operand is not read in boxes."""
    conv = reduction.conv
    kind, architecture = reduction.kind, reduction.architecture
    if form.largest > LARGEST_INT32 or not tiles.may_have_boxes(kind, architecture, form.C):
        return None
    shape = reduction.shape(sum_weight_boxes, form.M, form.C)
    most, is_dense, step = tiles.tile_of(shape), conv.groups == 1, form.common("step")
    tile = replace(
        most,
        M=boxes.block_of(form.M, most.M, is_dense),
        Q=boxes.block_of(form.C, most.Q, is_dense and step[1] == 1),
    )
    box = boxes.box_of(tile.P, form.extents(conv.N))
    views = boxes.complete(
        {
            "input_data": boxes.stepped_view(reduction.input, step, box, tile.Q),
            "grad_data": boxes.stepped_view(reduction.grad_output, (1, 1), box, tile.M),
        }
    )
    if views is None:
        return None
    _, blocks_h, blocks_w = blocks = boxes.blocks_of(box, form.extents(conv.N))
    numbers = {
        "boxes": prod(blocks),
        "boxes_of_split": triton.cdiv(prod(blocks), reduction.splits),
        "blocks_h": blocks_h,
        "blocks_w": blocks_w,
        "groups": conv.groups,
        "BLOCK_M": tile.M,
        "BLOCK_Q": tile.Q,
        **boxes.blocks_named(box),
        **walks,
        **reduction.types,
        **products_of(reduction.dtype, reduction.precision),
        **tile.options,
    }
    blocks_q = triton.cdiv(conv.C_in, tile.Q) * conv.taps
    grid = (triton.cdiv(conv.C_out, tile.M) * blocks_q, conv.groups, reduction.splits)
    return Launch(sum_weight_boxes, grid, numbers, tiles.IN_BOXES, shape, views)


def addition(reduction: Reduction) -> Launch:
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
        **named(reduction.grad_weight, "weight"),
        **reduction.types,
    }
    return Launch(add_splits, (triton.cdiv(size, tile.Q), 1, 1), numbers)
