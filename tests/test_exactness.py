"""On every path and for every shape, a result depends on its own products alone.

The error of an element is bounded by the magnitudes of its own products, not by those of its
neighbours. Winograd's form of the passes does not keep this bound; it is off unless allowed. Each
case runs in both layouts. Expected values come from the loop over meetings in exact.py.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from exact import FORWARD, GRAD_INPUT, GRAD_WEIGHT, PASSES, Pass, wide
from hypothesis import HealthCheck, given, settings
from layer_cases import (
    DTYPES,
    EVERY_KERNEL,
    LAYERS,
    TAKEN_BY_WINOGRAD,
    case,
    drawn,
    exact_sums,
    results,
    whole_numbers,
)
from strategies import layers
from torch import Tensor

from convgrad_ext.cases import Case

pytestmark = EVERY_KERNEL

EVERY_PASS = pytest.mark.parametrize("convolve", PASSES, ids=str)
EVERY_LAYER = pytest.mark.parametrize("layer", LAYERS, ids=str)
WINOGRADS = pytest.mark.parametrize("layer", TAKEN_BY_WINOGRAD, ids=str)


# The error


@EVERY_PASS
@DTYPES
@pytest.mark.parametrize("draw", ["by_element", "by_pixel"])
@EVERY_LAYER
def test_an_element_errs_by_its_own_products(
    layer: Case, draw: str, dtype: torch.dtype, convolve: Pass
) -> None:
    """Operands from 1e-6 to 1e6: a large neighbour costs no digit, and a sum of none is zero."""
    operands, (exact, bound) = drawn(draw, convolve, layer, dtype)
    for result in results(convolve, layer, *operands):
        assert result.dtype == dtype
        excess = abs(wide(result) - exact) - bound
        assert (excess <= 0).all(), f"{(excess > 0).mean():.1%} of the elements err too much"


# Signs


RELU = case("relu", "nothing below zero goes in", (32, 32), (14, 14), padding=1)


def spots(dtype: torch.dtype) -> Tensor:
    """An image, or a gradient, of two pixels."""
    image = torch.zeros(1, 32, 14, 14, dtype=dtype)
    image[:, :, 5, 5], image[:, :, 5, 6] = 1, 1 / 3
    return image


def a_strong_tap(dtype: torch.dtype) -> Tensor:
    weight = torch.full((32, 32, 3, 3), 1e-6, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    weight[:, :, 1, 0] = 1e3 * torch.rand(32, 32, generator=generator, dtype=dtype)
    return weight


def a_strong_pixel(dtype: torch.dtype) -> Tensor:
    grad_output = torch.full((1, 32, 14, 14), 1e-6, dtype=dtype)
    grad_output[:, :, 6, 5] = 1e3
    return grad_output


@DTYPES
@pytest.mark.parametrize(
    ("convolve", "operands"),
    [
        pytest.param(FORWARD, (spots, a_strong_tap), id="forward"),
        pytest.param(GRAD_INPUT, (a_strong_tap, spots), id="grad_input"),
        pytest.param(GRAD_WEIGHT, (spots, a_strong_pixel), id="grad_weight"),
    ],
)
def test_nothing_below_zero_comes_of_nothing_below_zero(
    convolve: Pass, operands: tuple, dtype: torch.dtype
) -> None:
    """A square root after a ReLU and a convolution is no NaN."""
    for result in results(convolve, RELU, *(make(dtype) for make in operands)):
        assert (result >= 0).all()


@EVERY_PASS
@DTYPES
@WINOGRADS
def test_nothing_below_zero_over_a_wide_range(
    layer: Case, dtype: torch.dtype, convolve: Pass
) -> None:
    (a, b), _ = drawn("by_pixel", convolve, layer, dtype)
    for result in results(convolve, layer, a.abs(), b.abs()):
        assert (result >= 0).all()


# The largest numbers


@DTYPES
def test_large_numbers_that_no_sum_makes_larger(dtype: torch.dtype) -> None:
    """2e38 and -2e38 two pixels apart: their difference is no number of float32."""
    large = {torch.float32: 2e38, torch.float64: 1.2e308}[dtype]
    image, weight = spots(dtype), torch.full((32, 32, 3, 3), 1e-3, dtype=dtype)
    image[0, 0, 5, 5], image[0, 0, 5, 7] = large, -large
    exact, bound = exact_sums(FORWARD, RELU, image, weight)
    for result in results(FORWARD, RELU, image, weight):
        assert result.isfinite().all()
        assert (abs(wide(result) - exact) <= bound).all()


@EVERY_PASS
@DTYPES
@EVERY_LAYER
def test_finite_where_the_sum_of_magnitudes_is_finite(
    layer: Case, dtype: torch.dtype, convolve: Pass
) -> None:
    """At most half the dtype's largest number, that is, which leaves room for rounding."""
    (a, b), (exact, bound) = drawn("near_overflow", convolve, layer, dtype)
    assert a.abs().max().item() * b.abs().max().item() * convolve.products(layer) <= (
        torch.finfo(dtype).max / 2
    )
    for result in results(convolve, layer, a, b):
        assert result.isfinite().all()
        assert (abs(wide(result) - exact) <= bound).all()


# Whole numbers

EITHER_SIGN, TO_THE_BRIM = -1, 0.75


@lru_cache(maxsize=64)
def whole_sums(
    convolve: Pass, layer: Case, dtype: torch.dtype, least: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The operands, and their exact sums."""
    a, b = whole_numbers(convolve, layer, dtype, least)
    exact = torch.from_numpy(convolve.exact(layer, a.numpy(), b.numpy()))
    return a.to(dtype), b.to(dtype), exact.to(dtype)


def check_whole_numbers(convolve: Pass, layer: Case, dtype: torch.dtype, least: float) -> None:
    a, b, exact = whole_sums(convolve, layer, dtype, least)
    for result in results(convolve, layer, a, b):
        assert torch.equal(result, exact)


@EVERY_PASS
@DTYPES
@pytest.mark.parametrize("least", [EITHER_SIGN, TO_THE_BRIM], ids=["either_sign", "to_the_brim"])
@EVERY_LAYER
def test_whole_numbers_are_exact(
    layer: Case, least: float, dtype: torch.dtype, convolve: Pass
) -> None:
    """While no sum of magnitudes reaches 2^24, or 2^53: nothing rounds, in whatever order."""
    check_whole_numbers(convolve, layer, dtype, least)


@EVERY_PASS
@DTYPES
@given(layer=layers())
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whole_numbers_are_exact_in_any_layer(
    layer: Case, dtype: torch.dtype, convolve: Pass
) -> None:
    check_whole_numbers(convolve, layer, dtype, TO_THE_BRIM)


# Kernels of one tap, a one

DIRAC = [
    case("3x3", "the middle tap of nine", (48, 48), (20, 20), padding=1),
    case("batch", "several images", (32, 32), (14, 14), N=3, padding=1),
    case("dilated", "taps apart", (48, 48), (24, 24), dilation=2, padding=2),
    case("5x5", "the middle of 25", (24, 24), (13, 12), kernel=(5, 5), padding=2),
    case("1x1", "nothing but the one", (40, 40), (14, 14), kernel=(1, 1)),
    case("grouped", "each group its own", (64, 64), (14, 14), groups=2, padding=1),
    case("depthwise", "each channel its own", (32, 32), (14, 14), groups=32, padding=1),
]


@DTYPES
@pytest.mark.parametrize("layer", DIRAC, ids=str)
def test_a_dirac_kernel_returns_the_image(layer: Case, dtype: torch.dtype) -> None:
    """Bit for bit, and its gradient the gradient."""
    (image, weight), _ = drawn("by_element", FORWARD, layer, dtype)
    dirac = torch.nn.init.dirac_(torch.empty_like(weight), layer.groups)
    for result in results(FORWARD, layer, image, dirac):
        assert torch.equal(result, image)
    for result in results(GRAD_INPUT, layer, dirac, image):
        assert torch.equal(result, image)


@DTYPES
@EVERY_LAYER
def test_the_weights_gradient_of_one_output_is_the_image_under_it(
    layer: Case, dtype: torch.dtype
) -> None:
    """One output of one filter has a gradient, of 1: that of each tap is the pixel that it read."""
    (image, grad_output), _ = drawn("by_element", GRAD_WEIGHT, layer, dtype)
    one = torch.zeros_like(grad_output)
    n, filter, h, w = (extent // 2 for extent in one.shape)
    one[n, filter, h, w] = 1
    expected = GRAD_WEIGHT.exact(layer, wide(image), wide(one))
    assert (expected[filter] != 0).any()
    for result in results(GRAD_WEIGHT, layer, image, one):
        assert np.array_equal(wide(result), expected)
