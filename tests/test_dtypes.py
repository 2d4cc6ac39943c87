"""Every dtype, and autocast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from operands import (
    INPUT,
    REDUCTION,
    WEIGHT,
    assert_close,
    operands,
)
from tolerance import rounding_bound
from torch import Tensor

import convgrad_ext

# Dtypes

INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


def small_integers(*size: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    least = 0 if dtype == torch.uint8 else -9
    return torch.randint(least, 10, size, generator=generator).to(dtype)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("params", [{}, {"stride": 2, "padding": 1}, {"padding": (0, 3)}], ids=str)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_are_exact(dtype: torch.dtype, params: dict[str, Any]) -> None:
    """Bit for bit as PyTorch, whose sums wrap around where they leave the type."""
    input, weight, bias = (
        small_integers(*size, dtype=dtype, seed=seed)
        for seed, size in enumerate((INPUT, WEIGHT, WEIGHT[:1]))
    )
    ours = convgrad_ext.conv2d(input, weight, bias, **params)
    theirs = F.conv2d(input, weight, bias, **params)
    assert ours.dtype == dtype
    assert torch.equal(ours, theirs)


def test_int8_sums_wrap_around() -> None:
    """100 + 100 = 200 is -56 in eight bits, and 4 * 100 = 400 is -112, as in PyTorch."""
    for taps, wrapped in ((2, -56), (4, -112)):
        input = torch.full((1, 1, 1, taps), 100, dtype=torch.int8)
        weight = torch.ones((1, 1, 1, taps), dtype=torch.int8)
        assert F.conv2d(input, weight).item() == wrapped
        assert convgrad_ext.conv2d(input, weight).item() == wrapped


def test_int8_sums_come_back_into_range() -> None:
    """100 + 100 - 100 = 100: a partial sum that wraps still gives the right sum."""
    input = torch.full((1, 1, 1, 3), 100, dtype=torch.int8)
    weight = torch.tensor([1, 1, -1], dtype=torch.int8).view(1, 1, 1, 3)
    assert convgrad_ext.conv2d(input, weight).item() == 100


def test_int64_is_exact_beyond_the_digits_of_a_float() -> None:
    """2^53 + 1 has no float64."""
    input = torch.tensor([2**53, 1]).view(1, 1, 1, 2)
    assert convgrad_ext.conv2d(input, torch.ones_like(input)).item() == 2**53 + 1


FLOATS = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_floats_are_close_to_the_double_result(dtype: torch.dtype) -> None:
    """On the same, already rounded, operands; half precision rounds once, at the end."""
    wide = torch.complex128 if dtype.is_complex else torch.float64
    rounded = [t.to(dtype) for t in operands(wide)]
    exact = F.conv2d(*(t.to(wide) for t in rounded))
    magnitudes = F.conv2d(*(t.to(wide).abs() for t in rounded))
    ours = convgrad_ext.conv2d(*rounded)
    assert ours.dtype == dtype
    error = (ours.to(wide) - exact).abs()
    assert bool((error <= rounding_bound(REDUCTION, dtype) * magnitudes).all())


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    """4096 ones: in half precision the sum would stop at 2048 (float16) or 256 (bfloat16)."""
    ones = torch.ones(1, 4096, 1, 1, dtype=dtype)
    assert convgrad_ext.conv2d(ones, ones).item() == 4096
    image = torch.ones(1, 1, 64, 64, dtype=dtype)
    assert convgrad_ext.conv2d_weight(image, (1, 1, 1, 1), image).item() == 4096
    outputs = torch.ones(4096, 1, 1, 1, dtype=dtype)
    assert convgrad_ext.conv2d_input((1, 1, 1, 1), outputs, ones).item() == 4096


# Autocast


@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_lowers_float32(lower: torch.dtype) -> None:
    """The same dtype as PyTorch, nearly the same values, and gradients in the leaves' own dtype."""
    leaves = [t.float().requires_grad_() for t in operands()]
    with torch.autocast("cpu", lower):
        ours, theirs = convgrad_ext.conv2d(*leaves), F.conv2d(*leaves)
    assert ours.dtype == theirs.dtype == lower
    exact = F.conv2d(*(t.detach().to(lower).double() for t in leaves))
    assert (ours.double() - exact).abs().max() <= 4 * torch.finfo(lower).eps * exact.abs().max()
    ours.sum().backward()
    assert [leaf.grad.dtype for leaf in leaves] == [torch.float32] * 3
    double = [t.detach().to(lower).double().requires_grad_() for t in leaves]
    F.conv2d(*double).sum().backward()
    for leaf, reference in zip(leaves, double, strict=True):
        close = 4 * torch.finfo(lower).eps * reference.grad.abs().max()
        assert (leaf.grad - reference.grad).abs().max() <= close


def test_autocast_leaves_float64_alone() -> None:
    tensors = operands()
    expected = F.conv2d(*tensors)
    with torch.autocast("cpu", torch.bfloat16):
        ours = convgrad_ext.conv2d(*tensors)
    assert ours.dtype == torch.float64
    assert_close(ours, expected)


def test_autocast_leaves_integers_alone() -> None:
    ones = torch.ones(1, 1, 3, 3, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        assert convgrad_ext.conv2d(ones, ones).dtype == F.conv2d(ones, ones).dtype == torch.int64


def test_autocast_brings_operands_together() -> None:
    """A float32 input meets a bfloat16 weight; without autocast that is an error."""
    input, weight = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        ours = convgrad_ext.conv2d(input, weight)
    assert (ours.dtype, ours.item()) == (torch.bfloat16, 9)


def test_autocast_switched_off_changes_nothing() -> None:
    input, weight = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
        assert convgrad_ext.conv2d(input, weight).dtype == torch.float32


def test_autocast_of_a_module() -> None:
    layer = convgrad_ext.Conv2d(4, 6, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(1, 4, 5, 5)).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32
