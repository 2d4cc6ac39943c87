"""Long sums in float32: the error stays near or below that of torch.nn.functional.conv2d."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from forced_winograd import forced_winograd
from kernel_names import FAST
from torch import Tensor

import convgrad_ext
from convgrad_ext import use_kernel
from convgrad_ext.cases import Case

# The error of random terms grows as the square root of the chain that they are added up in. A chain
# of up to twice the length passes, with the chance of which error is the largest; a sum that is not
# cut into blocks, a hundred times the length, does not.
CHANCE = 1.5

DRAWS = {
    "normal": torch.randn,  # terms of either sign: errors are random too, and partly cancel
    "positive": torch.rand,  # the partial sums grow, and each rounding error with them
}

# N * H_out * W_out is 10^6.
LONG_GRAD_WEIGHT = [
    Case("large_image", "one image alone", N=1, channels=(2, 4), image=(1002, 1002), kernel=(3, 3)),
    Case("many_images", "a batch", N=400, channels=(6, 12), image=(50, 50), kernel=(1, 1)),
    Case("patches", "a large batch", N=250, channels=(24, 32), image=(66, 66), kernel=(3, 3)),
    Case("short_rows", "rows of 5", N=2000, channels=(3, 8), image=(100, 7), kernel=(1, 3)),
]
# C_in * K_h * K_w is 10^5 in all but one, and so is C_out * K_h * K_w where the pass is grad_input.
LONG_GATHER = [
    Case("channels", "a matrix product", N=1, channels=(100000, 16), image=(8, 8), kernel=(1, 1)),
    Case("3x3", "channels and taps", N=1, channels=(11112, 16), image=(10, 10), kernel=(3, 3)),
    Case("layer", "256 channels", channels=(256, 64), image=(26, 26), kernel=(3, 3)),
    Case("channels_and_taps", "images", N=4, channels=(11112, 32), image=(18, 18), kernel=(3, 3)),
    Case("7x7", "more taps than rows", N=1, channels=(2048, 16), image=(14, 14), kernel=(7, 7)),
    Case("taps", "a tap a pixel", N=1, channels=(4, 16), image=(166, 166), kernel=(160, 160)),
]
TAKEN_BY_WINOGRAD = ("layer", "channels_and_taps", "patches")

Run = Callable[[], Tensor]


def draw(distribution: str, *size: int, seed: int) -> Tensor:
    return DRAWS[distribution](size, generator=torch.Generator().manual_seed(seed))


def largest_error(actual: Tensor, exact: Tensor) -> float:
    return (actual.double() - exact).abs().max().item()


def operands(case: Case, distribution: str) -> tuple[Tensor, Tensor]:
    input = draw(distribution, *case.input_size, seed=0)
    return input, draw(distribution, *case.weight_size, seed=1)


@cache
def forward(case: Case, distribution: str) -> tuple[Run, Tensor, float]:
    """Our call, the result in float64, and the error of F.conv2d in float32."""
    input, weight = operands(case, distribution)
    exact = case.torch_conv2d(input.double(), weight.double())
    theirs = largest_error(case.torch_conv2d(input, weight), exact)
    return lambda: convgrad_ext.conv2d(input, weight), exact, theirs


@cache
def grad_input(case: Case, distribution: str) -> tuple[Run, Tensor, float]:
    """The same for grad_input, whose sums go over C_out: the channels of the case are exchanged."""
    C_in, C_out = case.channels
    size, weight_size = (case.N, C_out, *case.image), (C_in, C_out, *case.kernel)
    weight = draw(distribution, *weight_size, seed=0)
    H_out, W_out = (i - k + 1 for i, k in zip(case.image, case.kernel, strict=True))
    grad_output = draw(distribution, case.N, C_in, H_out, W_out, seed=1)
    exact = torch.nn.grad.conv2d_input(size, weight.double(), grad_output.double())
    theirs = largest_error(torch.nn.grad.conv2d_input(size, weight, grad_output), exact)
    return lambda: convgrad_ext.conv2d_input(size, weight, grad_output), exact, theirs


@cache
def grad_weight(case: Case, distribution: str) -> tuple[Run, Tensor, float]:
    input, weight = operands(case, distribution)
    size = case.weight_size
    grad_output = draw(distribution, *case.torch_conv2d(input, weight).shape, seed=2)
    exact = torch.nn.grad.conv2d_weight(input.double(), size, grad_output.double())
    theirs = largest_error(torch.nn.grad.conv2d_weight(input, size, grad_output), exact)
    return lambda: convgrad_ext.conv2d_weight(input, size, grad_output), exact, theirs


LONG = [
    *((forward, case) for case in LONG_GATHER),
    *((grad_input, case) for case in LONG_GATHER),
    *((grad_weight, case) for case in LONG_GRAD_WEIGHT),
]


def parameters(winograd: bool) -> list[Any]:
    """Every long sum by the default loops; some by Winograd's loops as well."""
    ours = [(sums, case) for sums, case in LONG if not winograd or case.name in TAKEN_BY_WINOGRAD]
    suffix = "-winograd" if winograd else ""
    return [
        pytest.param(sums, case, winograd, id=f"{sums.__name__}-{case}{suffix}")
        for sums, case in ours
    ]


@pytest.mark.parametrize("kernel_name", FAST)
@pytest.mark.parametrize("distribution", DRAWS)
@pytest.mark.parametrize(
    ("long_sums", "case", "winograd"), [*parameters(winograd=False), *parameters(winograd=True)]
)
def test_long_sums_err_about_as_torch(
    long_sums: Callable[[Case, str], tuple[Run, Tensor, float]],
    case: Case,
    winograd: bool,
    distribution: str,
    kernel_name: str,
) -> None:
    """Both against the same sums in float64."""
    ours, exact, theirs = long_sums(case, distribution)
    with use_kernel(kernel_name), forced_winograd(winograd):
        assert largest_error(ours(), exact) <= CHANCE * theirs
