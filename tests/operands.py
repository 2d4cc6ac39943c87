"""Input, weight and bias of one small convolution, and the comparison with F.conv2d."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from tolerance import assert_sums_equal
from torch import Tensor

import convgrad_ext

INPUT, WEIGHT = (2, 4, 9, 8), (6, 4, 3, 2)
REDUCTION = 4 * 3 * 2 + 1  # products and the bias


def random(*size: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(size, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def operands(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weight and bias."""
    sizes = INPUT, WEIGHT, WEIGHT[:1]
    input, weight, bias = (random(*s, dtype=dtype, seed=i) for i, s in enumerate(sizes))
    return input, weight, bias


def assert_close(actual: Tensor, expected: Tensor, reduction: int = REDUCTION) -> None:
    """Equal up to the rounding of sums of `reduction` products that are a few units large."""
    assert_sums_equal(actual, expected, torch.full_like(expected, 10 * reduction), reduction)


def assert_same_convolution(*tensors: Tensor | None, **params: Any) -> None:
    """Output and all gradients are F.conv2d's for the same call."""
    ours = with_gradients(convgrad_ext.conv2d, *tensors, **params)
    theirs = with_gradients(F.conv2d, *tensors, **params)
    for actual, expected in zip(ours, theirs, strict=True):
        assert_close(actual, expected, reduction=500)


def with_gradients(function: Callable[..., Tensor], *tensors: Tensor | None, **params: Any) -> list:
    leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
    output = function(*leaves, **params)
    cotangent = random(*output.shape, dtype=output.dtype, seed=9)
    wanted = [leaf for leaf in leaves if leaf is not None]
    return [output, *torch.autograd.grad(output, wanted, cotangent)]
