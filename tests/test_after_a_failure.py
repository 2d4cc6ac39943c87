"""A failed call changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bad_calls import BAD_CALLS, INPUT, OUTPUT, WEIGHT, WRONG_TYPES, BadCall
from refusals import error_of
from torch import Tensor

import convgrad_ext
from convgrad_ext import _C


def selected_kernel() -> str | None:
    previous = _C.select_kernel(None)
    _C.select_kernel(previous)
    return previous


def state_of(tensor: Tensor | None) -> Any:
    if tensor is None:
        return None
    grad = None if tensor.grad is None else tensor.grad.tolist()
    return (
        tensor.tolist(),
        grad,
        tensor._version,
        tensor.requires_grad,
        tensor.stride(),
        id(tensor.grad_fn),
    )


@pytest.mark.parametrize("call", BAD_CALLS, ids=str)
def test_a_failed_call_changes_nothing(call: BadCall) -> None:
    tensors = call.tensors()
    for tensor in tensors[:2]:
        tensor.requires_grad_().grad = torch.full_like(tensor, 7)
    before = [state_of(tensor) for tensor in tensors]
    with convgrad_ext.use_kernel("reference"):
        error_of(convgrad_ext.conv2d, *tensors, **call.params)
        assert selected_kernel() == "reference"
    assert [state_of(tensor) for tensor in tensors] == before


@pytest.mark.parametrize(("name", "value", "expected"), WRONG_TYPES)
def test_a_failed_argument_changes_nothing(name: str, value: Any, expected: str) -> None:
    input, weight = torch.ones(INPUT, requires_grad=True), torch.ones(WEIGHT, requires_grad=True)
    before = state_of(input), state_of(weight), repr(value)
    error_of(convgrad_ext.conv2d, input, weight, **{name: value})
    assert (state_of(input), state_of(weight), repr(value)) == before


def test_a_failed_gradient_changes_nothing() -> None:
    operand, grad_output = torch.ones(INPUT, requires_grad=True), torch.ones(1, 6, 3, 3)
    before = state_of(operand), state_of(grad_output)
    error_of(convgrad_ext.conv2d_weight, operand, WEIGHT, grad_output)
    error_of(convgrad_ext.conv2d_input, INPUT, operand, grad_output)
    assert (state_of(operand), state_of(grad_output)) == before


def test_a_failed_call_may_be_repeated_right() -> None:
    """The same thread, the same tensors, one argument corrected."""
    input, weight = torch.ones(INPUT), torch.ones(WEIGHT)
    error_of(convgrad_ext.conv2d, input, weight, stride=0)
    assert torch.equal(convgrad_ext.conv2d(input, weight, stride=1), torch.full(OUTPUT, 36.0))


def test_a_failure_ends_the_choice_of_kernel() -> None:
    assert selected_kernel() is None
    with (
        pytest.raises(RuntimeError, match="non-positive stride"),
        convgrad_ext.use_kernel("reference"),
    ):
        convgrad_ext.conv2d(torch.ones(INPUT), torch.ones(WEIGHT), stride=0)
    assert selected_kernel() is None
