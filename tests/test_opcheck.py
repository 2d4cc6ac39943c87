"""The three operators against the contract of torch.library, over the named cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.library import opcheck

from convgrad_ext.arguments import as_parameters
from convgrad_ext.cases import CASES, Case

OPERATORS = ("conv2d", "conv2d_input", "conv2d_weight")
CHEAP = ("test_schema", "test_autograd_registration", "test_faketensor")
TRACED = "test_aot_dispatch_dynamic"  # forward and backward in a graph of symbolic sizes
pytestmark = pytest.mark.usefixtures("recorder")

DISTINCT = {
    "plain",
    "single_pixel",
    "kernel_covers_input",
    "padding_exceeds_kernel",
    "stride_exceeds_kernel",
    "leftover_input_rows_and_columns",
    "dilation_jumps_over_the_image",
    "stride_and_dilation_share_factor",
    "grouped",
    "depthwise_with_multiplier",
    "one_image",
    "asymmetric",
}


def arguments_of(name: str, case: Case, requires_grad: tuple[bool, bool]) -> tuple[Any, ...]:
    """An operator's arguments; its two factors require gradients as given."""
    input, weight, bias = case.tensors(torch.float64)
    grad_output = torch.ones_like(case.torch_conv2d(input, weight))
    params = as_parameters(input.shape, weight.shape, **case.params)
    first, second = {
        "conv2d": (input, weight),
        "conv2d_input": (weight, grad_output),
        "conv2d_weight": (input, grad_output),
    }[name]
    for factor, wanted in zip((first, second), requires_grad, strict=True):
        factor.requires_grad_(wanted)
    if name == "conv2d":
        return (first, second, bias.requires_grad_(requires_grad[1]), *params)
    if name == "conv2d_input":
        return (case.input_size, first, second, *params)
    return (first, case.weight_size, second, *params)


def check(name: str, case: Case, utils: tuple[str, ...], requires_grad: tuple[bool, bool]) -> None:
    operator = getattr(torch.ops.convgrad_ext, name).default
    opcheck(operator, arguments_of(name, case, requires_grad), test_utils=utils)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_schema_autograd_and_fake_tensors(case: Case, name: str) -> None:
    check(name, case, CHEAP, (True, True))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("case", [c for c in CASES if c.name in DISTINCT], ids=str)
def test_traced_with_symbolic_sizes(case: Case, name: str) -> None:
    check(name, case, (TRACED,), (True, True))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("case", [c for c in CASES if c.name not in DISTINCT], ids=str)
def test_the_other_cases_traced_with_symbolic_sizes(case: Case, name: str) -> None:
    check(name, case, (TRACED,), (True, True))


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)], ids=str)
def test_one_factor_or_none_wants_a_gradient(wanted: tuple[bool, bool], name: str) -> None:
    grouped = next(case for case in CASES if case.name == "grouped")
    check(name, grouped, (*CHEAP, TRACED), wanted)


def test_distinct_cases_are_cases() -> None:
    assert {case.name for case in CASES} >= DISTINCT
