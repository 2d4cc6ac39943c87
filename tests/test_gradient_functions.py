"""conv2d_input and conv2d_weight against torch.nn.grad."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from expected import output_like
from operands import (
    INPUT,
    WEIGHT,
    assert_close,
    operands,
    random,
)
from tolerance import assert_sums_equal

import convgrad_ext
from convgrad_ext.cases import CASES, Case

IN_TORCH = [c for c in CASES if c.in_torch and not isinstance(c.padding, str)]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("case", IN_TORCH, ids=str)
def test_conv2d_input_is_torchs(case: Case) -> None:
    input, weight, _ = case.tensors(torch.float64)
    grad_output = output_like(case, input, weight)
    arguments = [
        (case.input_size, w, g)
        for w, g in ((weight, grad_output), (weight.abs(), grad_output.abs()))
    ]
    ours = convgrad_ext.conv2d_input(*arguments[0], **case.params)
    theirs, magnitudes = (torch.nn.grad.conv2d_input(*a, **case.params) for a in arguments)
    assert_sums_equal(ours, theirs, magnitudes, reduction=weight[:, 0].numel())


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("case", IN_TORCH, ids=str)
def test_conv2d_weight_is_torchs(case: Case) -> None:
    input, weight, _ = case.tensors(torch.float64)
    grad_output = output_like(case, input, weight)
    arguments = [
        (i, case.weight_size, g)
        for i, g in ((input, grad_output), (input.abs(), grad_output.abs()))
    ]
    ours = convgrad_ext.conv2d_weight(*arguments[0], **case.params)
    theirs, magnitudes = (torch.nn.grad.conv2d_weight(*a, **case.params) for a in arguments)
    assert_sums_equal(ours, theirs, magnitudes, reduction=grad_output[:, 0].numel())


@pytest.mark.parametrize("form", [tuple, list, torch.Size], ids=["tuple", "list", "torch_size"])
def test_forms_of_a_size(form: Callable) -> None:
    input, weight, _ = operands()
    grad_output = F.conv2d(input, weight)
    theirs = torch.nn.grad.conv2d_input(form(INPUT), weight, grad_output)
    assert_close(convgrad_ext.conv2d_input(form(INPUT), weight, grad_output), theirs, reduction=500)
    theirs = torch.nn.grad.conv2d_weight(input, form(WEIGHT), grad_output)
    assert_close(
        convgrad_ext.conv2d_weight(input, form(WEIGHT), grad_output), theirs, reduction=500
    )


def test_sizes_of_numpy_ints() -> None:
    input, weight, _ = operands()
    grad_output = F.conv2d(input, weight)
    size = tuple(np.array(INPUT))
    theirs = torch.nn.grad.conv2d_input(INPUT, weight, grad_output)
    assert_close(convgrad_ext.conv2d_input(size, weight, grad_output), theirs, reduction=500)


@pytest.mark.parametrize("height", [7, 8])
def test_several_inputs_lead_to_one_output(height: int) -> None:
    """Why input_size is asked for: 7 and 8 rows under a kernel of 3 and a stride of 2 make 3."""
    weight, grad_output = random(1, 1, 3, 3), random(1, 1, 3, 3, seed=1)
    size = (1, 1, height, 7)
    ours = convgrad_ext.conv2d_input(size, weight, grad_output, stride=2)
    assert ours.shape == size
    assert_close(ours, torch.nn.grad.conv2d_input(size, weight, grad_output, stride=2))
    assert torch.equal(ours[..., 7:, :], torch.zeros(1, 1, height - 7, 7, dtype=torch.float64))
