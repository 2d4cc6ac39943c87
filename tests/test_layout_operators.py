"""The strides that the operators give to a gradient."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F
from forced_winograd import forced_winograd
from layouts import (
    DENSE,
    LAST,
    PARAMS,
    RAW,
    Size,
    leaves_of,
    permuted,
    random,
)
from tolerance import assert_sums_equal

LAYERS = {
    "direct": ((2, 12, 9, 8), (20, 12, 3, 3), (1, 1), (1, 1, 1, 1), 1),
    "strided": ((2, 12, 9, 8), (20, 12, 3, 3), (2, 2), (1, 1, 1, 1), 1),
    "stride_exceeds_kernel": ((2, 12, 9, 8), (20, 12, 2, 2), (3, 3), (0, 0, 0, 0), 1),
    "pointwise": ((2, 12, 9, 8), (20, 12, 1, 1), (1, 1), (0, 0, 0, 0), 1),
    "depthwise": ((2, 12, 9, 8), (12, 1, 3, 3), (1, 1), (1, 1, 1, 1), 12),
    "grouped": ((2, 12, 9, 8), (20, 3, 3, 3), (1, 1), (1, 1, 1, 1), 4),
    "winograd": ((2, 24, 16, 16), (32, 24, 3, 3), (1, 1), (1, 1, 1, 1), 1),
}


@pytest.mark.usefixtures("kernel", "poisoned")
@pytest.mark.parametrize("layer", LAYERS)
def test_every_order_of_the_dimensions_is_written(layer: str) -> None:
    """Each of 24, on every path."""
    input_size, weight_size, stride, sides, groups = LAYERS[layer]
    input, weight = random(*input_size), random(*weight_size, seed=1)
    params = stride, sides, (1, 1), groups
    theirs = {"stride": stride, "padding": sides[0], "groups": groups}
    grad_output = random(*F.conv2d(input, weight, **theirs).shape, seed=2)
    expected_input = torch.nn.grad.conv2d_input(input_size, weight, grad_output, **theirs)
    expected_weight = torch.nn.grad.conv2d_weight(input, weight_size, grad_output, **theirs)
    for order in permutations(range(4)):
        of_input, of_weight = (permuted(order)(t).stride() for t in (input, weight))
        with forced_winograd(layer == "winograd"):
            grad_input = RAW.conv2d_input(input_size, weight, grad_output, *params, of_input)
            grad_weight = RAW.conv2d_weight(input, weight_size, grad_output, *params, of_weight)
        assert (grad_input.stride(), grad_weight.stride()) == (of_input, of_weight)
        for actual, expected in ((grad_input, expected_input), (grad_weight, expected_weight)):
            assert_sums_equal(actual, expected, torch.full_like(expected, 1e4), reduction=1000)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("size", "kernel_extent", "expected"),
    [
        pytest.param((8, 4), (3, 3), (36, 1, 12, 4), id="channels_last"),
        pytest.param((8, 4), (1, 1), (4, 1, 1, 1), id="pointwise_is_contiguous"),
        pytest.param((8, 4), (3, 1), (12, 1, 4, 4), id="one_column"),
    ],
)
def test_without_strides_an_operand_decides(
    device: str, size: Size, kernel_extent: Size, expected: Size
) -> None:
    """Of the two formats that are the same memory, the gradient gets the contiguous one."""
    input = torch.empty(2, 4, 6, 5, device=device).contiguous(memory_format=LAST)
    weight = torch.empty(*size, *kernel_extent, device=device)
    output = RAW.conv2d(input, weight, None, *PARAMS)
    grad_weight = RAW.conv2d_weight(input, tuple(weight.shape), output, *PARAMS)
    assert grad_weight.stride() == expected
    assert RAW.conv2d_input(tuple(input.shape), weight, output, *PARAMS).stride() == input.stride()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_operands_that_are_both_decide_nothing(device: str) -> None:
    """Images of one channel are channels_last and contiguous at once: they count as contiguous."""
    input = torch.empty(2, 1, 6, 5, device=device).contiguous(memory_format=LAST)
    grad_output = torch.empty(2, 8, 4, 3, device=device)
    weight = torch.empty(8, 1, 3, 3, device=device).contiguous(memory_format=LAST)
    assert RAW.conv2d_weight(input, (8, 1, 3, 3), grad_output, *PARAMS).stride() == (9, 9, 3, 1)
    grad_input = RAW.conv2d_input((2, 1, 6, 5), weight, grad_output, *PARAMS)
    assert grad_input.stride() == (30, 30, 5, 1)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    "strides",
    [
        pytest.param((0, 9, 3, 1), id="expanded"),
        pytest.param((18, 9, 3, 1), id="every_other"),
        pytest.param((9, 9, 3, 1), id="overlapping"),
        pytest.param((2**62, 9, 3, 1), id="far_apart"),
        pytest.param((2**63 - 1,) * 4, id="beyond_64_bits"),
    ],
)
def test_strides_with_gaps_are_not_taken_over(strides: Size, device: str) -> None:
    input = torch.zeros(2, 1, 6, 5, device=device)
    grad_output = torch.zeros(2, 4, 4, 3, device=device)
    grad_weight = RAW.conv2d_weight(input, (4, 1, 3, 3), grad_output, *PARAMS, strides)
    same = strides[0] == 9  # one channel: the second stride is never used
    assert grad_weight.stride() == (strides if same else (9, 9, 3, 1))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("strides", [(), (9, 9, 3), (9, 9, 3, 1, 1), (9, 9, 3, -1)], ids=str)
def test_strides_that_are_none(strides: Size, device: str) -> None:
    input, weight = torch.zeros(2, 1, 6, 5, device=device), torch.zeros(4, 1, 3, 3, device=device)
    grad_output = torch.zeros(2, 4, 4, 3, device=device)
    message = (
        "expected grad_strides to be 4 numbers of at least 0, but got "
        f"grad_strides={list(strides)}".replace("[", r"\[")
    )
    with pytest.raises(RuntimeError, match=message):
        RAW.conv2d_weight(input, (4, 1, 3, 3), grad_output, *PARAMS, strides)
    with pytest.raises(RuntimeError, match=message):
        RAW.conv2d_input((2, 1, 6, 5), weight, grad_output, *PARAMS, strides)


@pytest.mark.parametrize("op_name", ["conv2d_input", "conv2d_weight"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "rows_outermost"])
def test_operators_meet_the_contract_of_torch_library(op_name: str, layout: str) -> None:
    """opcheck: among others, that tensors without data have the strides of those with data."""
    input, weight = leaves_of("strided", DENSE[layout], DENSE[layout])
    params = ((2, 2), (1, 1, 1, 1), (1, 1), 1)
    grad_output = RAW.conv2d(input, weight, None, *params).detach().requires_grad_()
    if op_name == "conv2d_input":
        arguments = (tuple(input.shape), weight, grad_output, *params, input.stride())
    else:
        arguments = (input, tuple(weight.shape), grad_output, *params, weight.stride())
    torch.library.opcheck(getattr(RAW, op_name).default, arguments)
