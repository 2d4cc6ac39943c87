"""Infinities and NaN reach the results that read them, and no other: padding is no operand.

A tap outside of the image meets nothing, so that an infinite weight there is multiplied by no zero.
Where an infinity meets a zero of the image itself, their product is NaN, as IEEE 754 has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pytest
import torch
from exact import FORWARD, PASSES, Array, Pass, output_size
from hypothesis import HealthCheck, given, settings
from layer_cases import DTYPES, EVERY_KERNEL, LAYERS, LAYOUTS, counts, drawn, named, results
from strategies import cases, layers
from torch import Generator, Tensor

import convgrad_ext
from convgrad_ext.cases import CASES, Case

pytestmark = EVERY_KERNEL

EVERY_PASS = pytest.mark.parametrize("convolve", PASSES, ids=str)
OPERANDS = pytest.mark.parametrize("operand", [0, 1], ids=["first_operand", "second_operand"])
SPECIAL = (torch.inf, -torch.inf, torch.nan)


# By hand


@DTYPES
def test_an_infinite_pixel_under_ones_makes_nine_infinities(dtype: torch.dtype) -> None:
    image = torch.ones(1, 32, 14, 14, dtype=dtype)
    image[0, 0, 5, 7] = torch.inf
    expected = torch.full((14, 14), 32.0 * 9, dtype=dtype)
    expected[0], expected[-1], expected[:, 0], expected[:, -1] = (32.0 * 6,) * 4
    expected[[0, 0, -1, -1], [0, -1, 0, -1]] = 32.0 * 4
    expected[4:7, 6:9] = torch.inf
    ones = torch.ones(32, 32, 3, 3, dtype=dtype)
    for layout in LAYOUTS:
        output = convgrad_ext.conv2d(image.contiguous(memory_format=layout), ones, padding=1)
        assert torch.equal(output, expected.expand(1, 32, 14, 14))


@DTYPES
@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize("channels", [1, 8, 40])
def test_padding_meets_no_infinite_weight(
    channels: int, special: float, dtype: torch.dtype
) -> None:
    """The pixels around a 1x1 kernel's image are the bias: there is no 0 * inf in them."""
    image, bias = torch.ones(2, channels, 3, 4, dtype=dtype), torch.ones(channels, dtype=dtype)
    weight = torch.full((channels, channels, 1, 1), special, dtype=dtype)
    expected = torch.ones(2, channels, 7, 8, dtype=dtype)
    expected[:, :, 2:-2, 2:-2] = special
    for layout in LAYOUTS:
        images = image.contiguous(memory_format=layout)
        output = convgrad_ext.conv2d(images, weight, bias, padding=2)
        assert np.array_equal(output, expected, equal_nan=True)


@DTYPES
@pytest.mark.parametrize("channels", [1, 8, 40])
def test_a_tap_that_meets_padding_alone_reaches_nothing(channels: int, dtype: torch.dtype) -> None:
    """3x3 pixels under taps 4 apart: all but the middle tap fall outside, and may be anything."""
    weight = torch.full((channels, channels, 3, 3), torch.inf, dtype=dtype)
    weight[:, :, 0], weight[:, :, 1, 1] = torch.nan, 1
    ones = torch.ones(1, channels, 3, 3, dtype=dtype)
    params = {"padding": 4, "dilation": 4}
    output = convgrad_ext.conv2d(ones, weight, **params)
    grad_input = convgrad_ext.conv2d_input(ones.shape, weight, ones, **params)
    assert torch.equal(output, channels * ones)
    assert torch.equal(grad_input, channels * ones)


@DTYPES
@pytest.mark.parametrize("channels", [1, 8, 40])
def test_a_gradient_that_met_padding_alone_reaches_no_weight(
    channels: int, dtype: torch.dtype
) -> None:
    """Under a padded 1x1 kernel, the output's rim."""
    grad_output = torch.full((2, channels, 7, 8), torch.inf, dtype=dtype)
    grad_output[:, :, 2:-2, 2:-2] = 1
    image = torch.ones(2, channels, 3, 4, dtype=dtype)
    weight = torch.ones(channels, channels, 1, 1, dtype=dtype)
    grad_weight = convgrad_ext.conv2d_weight(image, weight.shape, grad_output, padding=2)
    assert (grad_weight == 2 * 3 * 4).all()
    grad_input = convgrad_ext.conv2d_input(image.shape, weight, grad_output, padding=2)
    assert (grad_input == channels).all()


# By the relation


def whole(size: Sequence[int], generator: Generator) -> Tensor:
    """Whole numbers, zeros among them, whose sums no dtype rounds."""
    return torch.randint(-2, 3, tuple(size), generator=generator).double()


def with_specials(t: Tensor, generator: Generator) -> Tensor:
    """Some elements are infinite or NaN, corners and so corner taps among them."""
    count = max(8, t.numel() // 500)
    places = torch.randint(0, t.numel(), (count,), generator=generator)
    places[0], places[1] = 0, t.numel() - 1
    t.view(-1)[places] = torch.tensor(SPECIAL, dtype=t.dtype).repeat(count)[:count]
    return t


@lru_cache(maxsize=64)
def reach(
    convolve: Pass, case: Case, dtype: torch.dtype, operand: int
) -> tuple[list[Tensor], Array]:
    """The operands, of which one has infinities; which results are infinite, NaN or neither."""
    generator = Generator().manual_seed(0)
    operands = [whole(size, generator) for size in convolve.sizes(case)]
    if operands[operand].numel() > 0:
        with_specials(operands[operand], generator)
    with np.errstate(invalid="ignore"):  # inf - inf
        expected = convolve.exact(case, *(t.numpy() for t in operands))
    return [t.to(dtype) for t in operands], expected


def check_reach(convolve: Pass, case: Case, dtype: torch.dtype, operand: int) -> None:
    operands, expected = reach(convolve, case, dtype, operand)
    for result in results(convolve, case, *operands):
        assert np.array_equal(result.numpy(), expected, equal_nan=True)


@EVERY_PASS
@DTYPES
@OPERANDS
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_infinities_reach_what_sees_them(
    layer: Case, operand: int, dtype: torch.dtype, convolve: Pass
) -> None:
    check_reach(convolve, layer, dtype, operand)


@EVERY_PASS
@OPERANDS
@pytest.mark.parametrize("case", CASES, ids=str)
def test_infinities_reach_what_sees_them_in_the_named_cases(
    case: Case, operand: int, convolve: Pass
) -> None:
    check_reach(convolve, case, torch.float32, operand)


@EVERY_PASS
@OPERANDS
@given(case=layers() | cases())
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_infinities_reach_what_sees_them_anywhere(case: Case, operand: int, convolve: Pass) -> None:
    check_reach(convolve, case, torch.float32, operand)


# Nothing to sum up


@EVERY_PASS
@DTYPES
@pytest.mark.parametrize("name", ["much_padding", "1x1_padded", "stride_exceeds_kernel"])
def test_sums_of_no_products_are_zero(name: str, dtype: torch.dtype, convolve: Pass) -> None:
    """Outputs that read padding alone, inputs that no output reads."""
    layer = named(name)
    operands, _ = drawn("by_element", convolve, layer, dtype)
    for result in results(convolve, layer, *operands):
        assert not result.numpy()[counts(convolve, layer) == 0].any()


@DTYPES
@pytest.mark.parametrize("name", ["much_padding", "1x1_padded"])
def test_outputs_that_see_padding_alone_are_the_bias(name: str, dtype: torch.dtype) -> None:
    """Bit for bit."""
    layer = named(name)
    (image, weight), _ = drawn("by_element", FORWARD, layer, dtype)
    bias = torch.linspace(-3, 3, layer.channels[1], dtype=dtype)
    alone = counts(FORWARD, layer) == 0
    assert alone.any()
    expected = bias[:, None, None].expand(output_size(layer)).numpy()
    for layout in LAYOUTS:
        images = image.contiguous(memory_format=layout)
        output = convgrad_ext.conv2d(images, weight, bias, **layer.params)
        assert np.array_equal(output.numpy()[alone], expected[alone])
