"""From the tensors of a call to its launches: a look into a cache, where the call is not the first.

The key is what a tensor gives away at once, so that a call costs the host little: docs/gpu.md.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from convgrad_ext.triton import boxes, tiles
from convgrad_ext.triton.boxes import Operand
from convgrad_ext.triton.gather import Gather
from convgrad_ext.triton.gather import launch_of as launch_of_gather
from convgrad_ext.triton.launches import Launch
from convgrad_ext.triton.reduction import Reduction, WeightLaunches
from convgrad_ext.triton.reduction import launches_of as launches_of_reduction
from convgrad_ext.triton.shapes import Convolution

KEPT = 1024  # calls of either kind

Layout = tuple[torch.Size, tuple[int, ...], bool]  # size, strides, whether it is aligned
Kind = tuple[torch.dtype, torch.device, str, int]  # precision, and the version of the tiles
Params = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]


def layout_of(tensor: Tensor) -> Layout:
    return tensor.shape, tensor.stride(), boxes.is_aligned(tensor)


def kind_of(tensor: Tensor) -> Kind:
    return tensor.dtype, tensor.device, tiles.precision_of(tensor.dtype), tiles.TUNED.version


@lru_cache(KEPT)
def launch_of(
    kind: Kind,
    source: Layout,
    weight: Layout,
    destination: Layout,
    params: Params,
    is_forward: bool,
    has_bias: bool,
) -> Launch:
    """Of forward or grad_input."""
    conv = convolution(source[0] if is_forward else destination[0], weight[0], params)
    s, w, d = (operand(kind, layout) for layout in (source, weight, destination))
    architecture = tiles.architecture_of(kind[1])
    return launch_of_gather(Gather(conv, is_forward, s, w, d, has_bias, kind[2], architecture))


@lru_cache(KEPT)
def launches_of(
    kind: Kind, input: Layout, grad_output: Layout, grad_weight: Layout, params: Params
) -> WeightLaunches:
    conv = convolution(input[0], grad_weight[0], params)
    x, y, w = (operand(kind, layout) for layout in (input, grad_output, grad_weight))
    return launches_of_reduction(Reduction(conv, x, y, w, kind[2], tiles.architecture_of(kind[1])))


def operand(kind: Kind, layout: Layout) -> Operand:
    size, strides, aligned = layout
    return Operand(kind[0], kind[1], tuple(size), strides, aligned)


def convolution(
    input_size: tuple[int, ...], weight_size: tuple[int, ...], params: Params
) -> Convolution:
    stride, (top, bottom, left, right), dilation, groups = params
    return Convolution(
        input_size=tuple(input_size),
        weight_size=tuple(weight_size),
        stride=(stride[0], stride[1]),
        padding=(top, bottom, left, right),
        dilation=(dilation[0], dilation[1]),
        groups=groups,
    )
