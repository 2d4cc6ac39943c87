"""A result's digits depend on its own sum alone.

A batch is bitwise its images one by one, and filters are bitwise their parts. The blocks that a
pass is cut into may depend on them, and so may the loops that run, but no sum is cut by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from exact import output_size
from kernel_names import FAST as FAST_KERNELS
from layer_cases import LAYERS, case, named
from torch import Tensor

import convgrad_ext
from convgrad_ext.cases import Case

SIZES = [
    *LAYERS,
    case("7x7", "the last maps of a network", (96, 64), (7, 7), padding=1),
    case("7x7_1x1", "more vectors a tile", (160, 64), (7, 7), kernel=(1, 1)),
    case("maps", "three filters a channel", (48, 144), (9, 8), groups=48, padding=1),
    case("512", "channels in several chains", (512, 48), (7, 7), padding=1),
    case("512_1x1", "the same under a single tap", (512, 64), (8, 9), kernel=(1, 1)),
    case("512_strided", "and of other phases", (512, 40), (9, 9), stride=2, padding=1),
    case("stem", "the pixels are split", (3, 48), (46, 45), kernel=(7, 7), stride=2, padding=3),
    case("large_map", "several bands", (8, 24), (40, 70), padding=1),
    case("large_map_1x1", "several panels", (24, 64), (40, 41), kernel=(1, 1)),
    case("large_kernel", "a tap a pixel", (2, 20), (18, 19), kernel=(15, 15), padding=4),
    case("patches", "their pixels are lanes", (6, 40), (12, 12), kernel=(4, 4), stride=4),
    case("pixel", "nothing but channels", (256, 64), (1, 1), kernel=(1, 1)),
]
# The number of filters decides on the loops of these.
GROUPS = case("groups", "pairs of channels in channels_last", (32, 32), (9, 13), groups=16)
EVERY_SIZE = pytest.mark.parametrize("layer", SIZES, ids=str)
LAYOUT = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"]
)
FAST = pytest.mark.parametrize("name", FAST_KERNELS)
FAST_DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64], ids=str
)
REFERENCE_DTYPES = pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64, torch.int32],
    ids=str,
)
SMALL = pytest.mark.parametrize("layer", [named("1x1"), named("grouped")], ids=str)


def draw(size: Sequence[int], dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
    generator = torch.Generator().manual_seed(sum(size))
    numbers = 100 * torch.randn(tuple(size), generator=generator, dtype=torch.float64)
    return numbers.to(dtype).contiguous(memory_format=layout)


# Images


def check_images(layer: Case, dtype: torch.dtype, layout: torch.memory_format) -> None:
    """Six at once; one, four and one."""
    layer = replace(layer, N=6)
    image, weight, grad_output = (
        draw(size, dtype, layout)
        for size in (layer.input_size, layer.weight_size, output_size(layer))
    )
    output = convgrad_ext.conv2d(image, weight, **layer.params)
    grad_input = convgrad_ext.conv2d_input(image.shape, weight, grad_output, **layer.params)
    for x, y, dx, dy in zip(
        *(t.split([1, 4, 1]) for t in (image, output, grad_input, grad_output)), strict=True
    ):
        assert torch.equal(convgrad_ext.conv2d(x, weight, **layer.params), y)
        assert torch.equal(convgrad_ext.conv2d_input(x.shape, weight, dy, **layer.params), dx)


@FAST
@LAYOUT
@FAST_DTYPES
@pytest.mark.parametrize("layer", [*SIZES, GROUPS], ids=str)
def test_a_batch_is_its_images(
    layer: Case, dtype: torch.dtype, layout: torch.memory_format, name: str
) -> None:
    with convgrad_ext.use_kernel(name):
        check_images(layer, dtype, layout)


@LAYOUT
@REFERENCE_DTYPES
@SMALL
def test_a_batch_is_its_images_in_the_reference(
    layer: Case, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    with convgrad_ext.use_kernel("reference"):
        check_images(layer, dtype, layout)


# Filters


def parts(t: Tensor, axis: int, groups: int, sizes: list[int]) -> list[Tensor]:
    """The first `filters` filters of each group."""
    layout = torch.channels_last if t.stride(1) == 1 else torch.contiguous_format
    return [
        part.flatten(axis, axis + 1).contiguous(memory_format=layout)
        for part in t.unflatten(axis, (groups, -1)).split(sizes, axis + 1)
    ]


def check_filters(layer: Case, dtype: torch.dtype, layout: torch.memory_format) -> None:
    """Halves, and three parts of which none is a multiple of a vector."""
    layer = replace(layer, N=2)
    image, weight, grad_output = (
        draw(size, dtype, layout)
        for size in (layer.input_size, layer.weight_size, output_size(layer))
    )
    output = convgrad_ext.conv2d(image, weight, **layer.params)
    grad_weight = convgrad_ext.conv2d_weight(image, weight.shape, grad_output, **layer.params)
    filters, groups = layer.channels[1] // layer.groups, layer.groups
    half, third = filters // 2, filters // 3
    for sizes in ([half, filters - half], [1, third, filters - third - 1]):
        for w, dw, y, dy in zip(
            parts(weight, 0, groups, sizes),
            parts(grad_weight, 0, groups, sizes),
            parts(output, 1, groups, sizes),
            parts(grad_output, 1, groups, sizes),
            strict=True,
        ):
            if w.numel() > 0:
                assert torch.equal(convgrad_ext.conv2d(image, w, **layer.params), y)
                assert torch.equal(
                    convgrad_ext.conv2d_weight(image, w.shape, dy, **layer.params), dw
                )


DIVISIBLE = pytest.mark.parametrize(
    "layer", [c for c in SIZES if c.channels[1] > c.groups], ids=str
)


@FAST
@LAYOUT
@FAST_DTYPES
@DIVISIBLE
def test_filters_are_their_parts(
    layer: Case, dtype: torch.dtype, layout: torch.memory_format, name: str
) -> None:
    if dtype.is_complex and layout == torch.channels_last and layer.channels[0] == layer.groups:
        pytest.skip("two real channels a group: an exception that docs/tile.md names")
    with convgrad_ext.use_kernel(name):
        check_filters(layer, dtype, layout)


@LAYOUT
@REFERENCE_DTYPES
@SMALL
def test_filters_are_their_parts_in_the_reference(
    layer: Case, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    with convgrad_ext.use_kernel("reference"):
        check_filters(layer, dtype, layout)


@FAST
@FAST_DTYPES
def test_results_that_meet_no_infinite_weight_are_those_of_other_filters(
    dtype: torch.dtype, name: str
) -> None:
    """The corner tap of the first filter is infinite: the first row and column do not meet it."""
    layout = torch.contiguous_format
    image, weight = draw((3, 96, 11, 19), dtype, layout), draw((24, 96, 3, 3), dtype, layout)
    weight[0, 5, 0, 0] = torch.inf
    with convgrad_ext.use_kernel(name):
        among_others = convgrad_ext.conv2d(image, weight, padding=1)[:, 0]
        alone = convgrad_ext.conv2d(image[:1], weight[:1], padding=1)[:, 0]
    assert alone.isfinite().sum() == 11 + 19 - 1
    assert torch.equal(alone.nan_to_num(), among_others[:1].nan_to_num())
