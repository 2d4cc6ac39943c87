"""The launches of forward and grad_input, whose programs own a part of the destination each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
import triton

from convgrad_ext.triton import boxes, tiles
from convgrad_ext.triton.boxes import LARGEST_INT32, Operand, View
from convgrad_ext.triton.kernels.boxes import correlate_boxes
from convgrad_ext.triton.kernels.correlate import correlate
from convgrad_ext.triton.kernels.depthwise import correlate_groups
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
from convgrad_ext.triton.tiles import ShapeClass, Tile


@dataclass(frozen=True)
class Gather:
    """All that a launch of forward or grad_input depends on."""

    conv: Convolution
    is_forward: bool
    source: Operand
    weight: Operand
    destination: Operand
    has_bias: bool
    precision: str
    architecture: int

    @property
    def dtype(self) -> torch.dtype:
        return self.source.dtype

    @property
    def kind(self) -> str:
        return tiles.kind_of(self.dtype, self.precision)

    def shape(self, kernel: Any, M: int, Q: int, form: Correlation) -> ShapeClass:
        pixels = self.conv.N * form.most_pixels
        return ShapeClass.of(kernel.__name__, self.architecture, self.kind, M, Q, pixels)


def launch_of(gather: Gather) -> Launch:
    form = form_of(gather)
    if tiles.is_depthwise(gather.conv):
        launch = over_groups(gather, form)
    else:
        launch = over_boxes(gather, form) or over_products(gather, form)
    table = table_of(form, gather.source.device)
    return replace(launch, table=table, remade=lambda: launch_of(gather))


def form_of(gather: Gather) -> Correlation:
    of = Correlation.forward if gather.is_forward else Correlation.grad_input
    return of(gather.conv)


def walks_of(gather: Gather, form: Correlation) -> Numbers:
    steps = "step", "tap_step", "pixel_step", "weight_step"
    return {"HAS_BIAS": gather.has_bias, **numbers_of(form, *steps)}


def offsets_of(gather: Gather) -> Numbers:
    """What a kernel without descriptors finds the elements by."""
    return {
        "N": gather.conv.N,
        **named(gather.source, "source"),
        **named(gather.destination, "destination"),
        **strides_of_weight(gather.conv, gather.weight, gather.is_forward),
        **types_of(gather.dtype, gather.source, gather.weight, gather.destination),
    }


def strides_of_weight(conv: Convolution, weight: Operand, is_forward: bool) -> Numbers:
    """From group to group, and for a channel of the destination, one of the source and a tap."""
    from_filter, from_channel, *of_tap = weight.strides
    pair = (from_filter, from_channel) if is_forward else (from_channel, from_filter)
    numbers = (conv.C_out * from_filter, *pair, *of_tap)
    return {f"weight_{axis}": stride for axis, stride in zip("gmchw", numbers, strict=True)}


def over_groups(gather: Gather, form: Correlation) -> Launch:
    groups = gather.conv.groups
    shape = gather.shape(correlate_groups, groups * form.M, form.C * gather.conv.taps, form)
    tile = tiles.tile_of(shape)
    programs = triton.cdiv(gather.conv.N * form.most_pixels, tile.P)  # of a phase
    grid = (programs * len(form.phases), triton.cdiv(groups * form.M, tile.Q), 1)
    blocks = {"programs": programs, "groups": groups, "BLOCK_P": tile.P, "BLOCK_Q": tile.Q}
    numbers = walks_of(gather, form) | offsets_of(gather) | blocks | tile.options
    return Launch(correlate_groups, grid, numbers, tiles.FEW_CHANNELS, shape)


def over_products(gather: Gather, form: Correlation) -> Launch:
    joins = form.C <= tiles.FEW_SOURCES
    steps = form.C * gather.conv.taps if joins else form.C
    shape = gather.shape(correlate, form.M, steps, form)
    tile = tiles.tile_of(shape).fitted(M=form.M, Q=steps)
    blocks_p = triton.cdiv(gather.conv.N * form.most_pixels, tile.P)
    programs = blocks_p * triton.cdiv(form.M, tile.M)  # of a phase
    grid = (programs * len(form.phases), gather.conv.groups, 1)
    blocks = {
        "programs": programs,
        "BLOCK_M": tile.M,
        "BLOCK_P": tile.P,
        "BLOCK_C": tile.Q,
        "JOINS_TAPS": joins,
    }
    numbers = walks_of(gather, form) | offsets_of(gather) | blocks | tile.options
    products = products_of(gather.dtype, gather.precision)
    reason = tiles.JOINED if joins else tiles.BY_TAPS
    return Launch(correlate, grid, numbers | products, reason, shape)


def over_boxes(gather: Gather, form: Correlation) -> Launch | None:
    """None where an operand is not read in boxes."""
    kind, architecture = gather.kind, gather.architecture
    if form.largest > LARGEST_INT32 or not tiles.may_have_boxes(kind, architecture, form.C):
        return None
    shape = gather.shape(correlate_boxes, form.M, form.C, form)
    tile, box = fitted_to_boxes(gather, form, tiles.tile_of(shape))
    views = boxes.complete(views_of(gather, form, tile, box))
    if views is None:
        return None
    _, blocks_h, blocks_w = blocks = boxes.blocks_of(box, form.extents(gather.conv.N))
    programs = prod(blocks) * triton.cdiv(form.M, tile.M)  # of a phase
    numbers = {
        "programs": programs,
        "blocks_h": blocks_h,
        "blocks_w": blocks_w,
        "groups": gather.conv.groups,
        "IS_FORWARD": gather.is_forward,
        "BLOCK_M": tile.M,
        "BLOCK_C": tile.Q,
        **boxes.blocks_named(box),
        **walks_of(gather, form),
        "SUM": types_of(gather.dtype)["SUM"],
        **products_of(gather.dtype, gather.precision),
        **tile.options,
    }
    grid = (programs * len(form.phases), gather.conv.groups, 1)
    return Launch(correlate_boxes, grid, numbers, tiles.IN_BOXES, shape, views)


def fitted_to_boxes(gather: Gather, form: Correlation, most: Tile) -> tuple[Tile, boxes.Box]:
    """Blocks of channels pass the end of a tensor alone, not that of a group or a phase."""
    is_dense = gather.conv.groups == 1
    ends_of_source, ends_of_destination = (
        is_dense and form.common(step)[1] == 1 for step in ("step", "pixel_step")
    )
    tile = replace(
        most,
        M=boxes.block_of(form.M, most.M, ends_of_destination),
        Q=boxes.block_of(form.C, most.Q, ends_of_source),
    )
    return tile, boxes.box_of(tile.P, form.extents(gather.conv.N))


def views_of(
    gather: Gather, form: Correlation, tile: Tile, box: boxes.Box
) -> dict[str, View | None]:
    block = (tile.M, tile.Q) if gather.is_forward else (tile.Q, tile.M)
    return {
        "source_data": boxes.stepped_view(gather.source, form.common("step"), box, tile.Q),
        "weight_data": boxes.weight_view(gather.weight, *block),
        "destination_data": boxes.stepped_view(
            gather.destination, form.common("pixel_step"), box, tile.M
        ),
    }
