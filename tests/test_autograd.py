"""The derivatives: against finite differences, of any order, and the memory that a graph keeps.

Each test runs through the C++ node and through the Python Functions, which test_recording.py
compares.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import convgrad_ext
from convgrad_ext.cases import CASES, Case

ALL_NAMES = ("input", "weight", "bias")
SUBSETS = [names for n in (1, 2, 3) for names in combinations(ALL_NAMES, n)]

pytestmark = pytest.mark.usefixtures("kernel", "recorder")


def conv_of(case: Case, wanted: tuple[str, ...]) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """conv2d as a function of the wanted tensors alone, and these."""
    tensors = dict(zip(ALL_NAMES, case.tensors(torch.float64), strict=True))
    leaves = [tensors[name].requires_grad_() for name in wanted]

    def function(*leaves: Tensor) -> Tensor:
        return convgrad_ext.conv2d(
            **tensors | dict(zip(wanted, leaves, strict=True)), **case.params
        )

    return function, leaves


@pytest.mark.parametrize("wanted", SUBSETS, ids="+".join)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradcheck(case: Case, wanted: tuple[str, ...]) -> None:
    function, leaves = conv_of(case, wanted)
    assert gradcheck(
        function,
        leaves,
        check_forward_ad=True,
        check_backward_ad=True,
        check_batched_grad=True,
        check_batched_forward_grad=True,
    )


@pytest.mark.parametrize("wanted", SUBSETS, ids="+".join)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradgradcheck(case: Case, wanted: tuple[str, ...]) -> None:
    function, leaves = conv_of(case, wanted)
    assert gradgradcheck(
        function,
        leaves,
        check_fwd_over_rev=True,
        check_rev_over_rev=True,
        check_batched_grad=True,
        fast_mode=True,
    )


@pytest.mark.parametrize("case", CASES[:2] + CASES[8:9] + CASES[16:19], ids=str)
def test_gradgradcheck_element_by_element(case: Case) -> None:
    """The fast mode above checks random projections, this every entry of the second derivatives."""
    function, leaves = conv_of(case, ALL_NAMES)
    assert gradgradcheck(function, leaves, check_fwd_over_rev=True)


@pytest.mark.parametrize("case", [c for c in CASES if c.name in ("strided", "grouped")], ids=str)
def test_gradcheck_of_complex_convolutions(case: Case) -> None:
    leaves = [t.requires_grad_() for t in case.tensors(torch.complex128)]
    assert gradcheck(
        lambda *t: convgrad_ext.conv2d(*t, **case.params), leaves, check_forward_ad=True
    )
    assert gradgradcheck(lambda *t: convgrad_ext.conv2d(*t, **case.params), leaves)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_companions_are_differentiable_themselves(case: Case) -> None:
    """conv2d_input and conv2d_weight as functions of their own tensors, to second order."""
    input, weight, _ = case.tensors(torch.float64)
    output = case.torch_conv2d(input, weight)

    def of_input(weight: Tensor, grad_output: Tensor) -> Tensor:
        return convgrad_ext.conv2d_input(case.input_size, weight, grad_output, **case.params)

    def of_weight(input: Tensor, grad_output: Tensor) -> Tensor:
        return convgrad_ext.conv2d_weight(input, case.weight_size, grad_output, **case.params)

    for function, operand in ((of_input, weight), (of_weight, input)):
        leaves = [operand.requires_grad_(), output.clone().requires_grad_()]
        assert gradcheck(function, leaves, check_forward_ad=True, fast_mode=True)
        assert gradgradcheck(function, leaves, check_fwd_over_rev=True, fast_mode=True)


def test_third_derivative() -> None:
    """sum(conv(x, w)**3): its third derivative along x, against torch's convolution."""
    case = CASES[8]

    def third(conv: Callable[..., Tensor]) -> Tensor:
        input, weight, _ = case.tensors(torch.float64)
        derivative = (conv(input.requires_grad_(), weight) ** 3).sum()
        for _ in range(3):
            (gradient,) = torch.autograd.grad(derivative, input, create_graph=True)
            derivative = (gradient * torch.arange(gradient.numel()).view_as(gradient)).sum()
        return derivative

    actual = third(lambda x, w: convgrad_ext.conv2d(x, w, **case.params))
    expected = third(lambda x, w: case.torch_conv2d(x, w))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)


def bytes_saved(function: Callable[[], Tensor]) -> int:
    """The bytes that the graph of an output saves for backward."""
    saved: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        saved.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        function()
    return sum(t.numel() * t.element_size() for t in saved)


@pytest.mark.parametrize(
    ("wants_input", "wants_weight", "saves"),
    [
        pytest.param(True, True, ("input", "weight"), id="both: each needs the other"),
        pytest.param(True, False, ("weight",), id="frozen weight: the input is not kept"),
        pytest.param(False, True, ("input",), id="first layer: the weight is not kept"),
        pytest.param(False, False, (), id="bias alone: neither is kept"),
    ],
)
def test_a_graph_saves_what_its_gradients_need(
    wants_input: bool, wants_weight: bool, saves: tuple[str, ...]
) -> None:
    input = torch.randn(1, 2, 5, 5, requires_grad=wants_input)
    weight = torch.randn(3, 2, 3, 3, requires_grad=wants_weight)
    bias = torch.zeros(3, requires_grad=True)
    sizes = {"input": input.numel() * 4, "weight": weight.numel() * 4}
    saved = bytes_saved(lambda: convgrad_ext.conv2d(input, weight, bias))
    assert saved == sum(sizes[name] for name in saves)


def test_frozen_weight_frees_the_input() -> None:
    """Tensors that only forward mode needs are released when the forward returns."""
    input = torch.randn(1, 2, 5, 5).mul(1)
    alive = weakref.ref(input)
    weight, bias = torch.randn(3, 2, 3, 3), torch.zeros(3, requires_grad=True)
    output = convgrad_ext.conv2d(input, weight, bias)
    del input
    gc.collect()
    assert output.requires_grad
    assert alive() is None


class DropGradient(torch.autograd.Function):
    """The identity, with an undefined gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        return None


def test_undefined_gradients_stay_undefined() -> None:
    """An output that nothing depends on has no gradient, rather than zeros that cost a pass."""
    input = torch.randn(1, 2, 5, 5, requires_grad=True)
    weight = torch.randn(3, 2, 3, 3, requires_grad=True)
    output = convgrad_ext.conv2d(input, weight)
    DropGradient.apply(output).sum().backward()
    assert input.grad is None
    assert weight.grad is None


def test_no_graph_without_a_wanted_gradient() -> None:
    input, weight = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3, requires_grad=True)
    with torch.no_grad():
        assert not convgrad_ext.conv2d(input, weight).requires_grad
    assert not convgrad_ext.conv2d(input, weight.detach()).requires_grad
    with torch.inference_mode():
        assert convgrad_ext.conv2d(input, weight).is_inference()


# Entering autograd: csrc/autograd_entry.cpp skips the Python rules where nothing is recorded,
# and where the C++ node records.

PARAMS = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
INPUT_SIZE, WEIGHT_SIZE, OUTPUT_SIZE = (1, 2, 5, 5), (3, 2, 3, 3), (1, 3, 3, 3)
RULES: dict[str, type[torch.autograd.Function]] = {
    "conv2d": convgrad_ext.Conv2dFunction,
    "conv2d_input": convgrad_ext.Conv2dInputFunction,
    "conv2d_weight": convgrad_ext.Conv2dWeightFunction,
}


def operator(name: str) -> tuple[Callable[..., Tensor], Tensor, Tensor]:
    """An operator as a function of its two factors, and these."""
    input, weight, grad_output = map(torch.randn, (INPUT_SIZE, WEIGHT_SIZE, OUTPUT_SIZE))
    ops = torch.ops.convgrad_ext
    if name == "conv2d":
        return lambda a, b: ops.conv2d(a, b, None, *PARAMS), input, weight
    if name == "conv2d_input":
        return lambda a, b: ops.conv2d_input(INPUT_SIZE, a, b, *PARAMS), weight, grad_output
    return lambda a, b: ops.conv2d_weight(a, WEIGHT_SIZE, b, *PARAMS), input, grad_output


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the operators whose rule has been entered, in order."""
    names: list[str] = []

    def watch(name: str, function: type[torch.autograd.Function]) -> None:
        forward = function.forward

        def watched(*args: Any) -> Any:
            names.append(name)
            return forward(*args)

        monkeypatch.setattr(function, "forward", staticmethod(watched))

    for name, function in RULES.items():
        watch(name, function)
    return names


@pytest.mark.parametrize("name", RULES)
def test_rule_is_passed_by_with_gradients_off(name: str, entered: list[str]) -> None:
    """Evaluation of a model, whose parameters require gradients."""
    function, first, second = operator(name)
    with torch.no_grad():
        function(first, second.requires_grad_())
    assert entered == []


@pytest.mark.parametrize("name", RULES)
def test_rule_is_passed_by_without_a_wanted_gradient(name: str, entered: list[str]) -> None:
    """Gradients are on, but no operand asks for one."""
    function, first, second = operator(name)
    function(first, second)
    assert entered == []


def test_rule_is_passed_by_after_a_transform(entered: list[str]) -> None:
    """torch.func leaves a state in the thread after a transform, which is no transform."""
    function, first, second = operator("conv2d")
    torch.func.grad(lambda x: function(x, second).sum())(first)
    entered.clear()
    function(first, second)
    assert entered == []


@pytest.mark.parametrize(
    ("create_graph", "rules"),
    [
        pytest.param(False, ["conv2d"], id="once"),
        pytest.param(True, ["conv2d", "conv2d_input", "conv2d_weight"], id="create_graph"),
    ],
)
def test_backward_enters_rules_for_higher_orders_only(
    create_graph: bool, rules: list[str], entered: list[str], recorder: str
) -> None:
    """With the C++ node, none at all."""
    function, input, weight = operator("conv2d")
    leaves = (input.requires_grad_(), weight.requires_grad_())
    torch.autograd.grad(function(*leaves).sum(), leaves, create_graph=create_graph)
    assert entered == (rules if recorder == "function" else [])


@pytest.mark.parametrize("wanted", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("name", RULES)
def test_rule_is_entered_for_each_wanted_gradient(
    name: str, wanted: int, entered: list[str], recorder: str
) -> None:
    """Either factor alone is enough. The C++ node records where it may."""
    function, *factors = operator(name)
    factors[wanted].requires_grad_()
    assert function(*factors).requires_grad
    assert entered == ([name] if recorder == "function" else [])


def test_rule_is_entered_for_the_bias_alone(entered: list[str], recorder: str) -> None:
    """The one operand that may be absent."""
    bias = torch.zeros(3, requires_grad=True)
    assert convgrad_ext.conv2d(
        torch.randn(INPUT_SIZE), torch.randn(WEIGHT_SIZE), bias
    ).requires_grad
    assert entered == (["conv2d"] if recorder == "function" else [])


@pytest.mark.parametrize("dual", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("name", RULES)
def test_rule_is_entered_for_a_tangent_under_no_grad(
    name: str, dual: int, entered: list[str]
) -> None:
    """no_grad switches off the reverse mode and leaves the forward mode on."""
    function, *factors = operator(name)
    with torch.no_grad(), forward_ad.dual_level():
        factors[dual] = forward_ad.make_dual(factors[dual], torch.ones_like(factors[dual]))
        assert forward_ad.unpack_dual(function(*factors)).tangent is not None
    assert entered[0] == name  # the rule of the tangent's own passes may follow


@pytest.mark.parametrize("name", RULES)
def test_no_rule_is_entered_at_a_level_of_torch_func_that_records_nothing(
    name: str, entered: list[str]
) -> None:
    """An outer level records for itself."""
    function, first, second = operator(name)
    torch.func.grad(lambda x: x * function(first, second).sum())(torch.ones(()))
    assert entered == []
