"""_C.plain_conv2d: the common calls that need no Python, and the calls that it hands back."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import convgrad_ext
from convgrad_ext import functional
from convgrad_ext._C import plain_conv2d
from convgrad_ext.cases import CASES, Case

INPUT, WEIGHT, BIAS = torch.ones(1, 2, 5, 5), torch.ones(3, 2, 3, 3), torch.ones(3)
ARGUMENTS: dict[str, Any] = {
    "input": INPUT,
    "weight": WEIGHT,
    "bias": None,
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
}


class Subclass(Tensor):
    """Of another class than Tensor and Parameter."""


class Index:
    """As numpy's integers, which are no int."""

    def __index__(self) -> int:
        return 1


class Number(int):
    """An int of another class, as an IntEnum's member is."""


def plain(**changed: Any) -> Tensor | None:
    return plain_conv2d(*(ARGUMENTS | changed).values())


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"weight": nn.Parameter(WEIGHT)}, id="parameter"),
        pytest.param({"bias": BIAS}, id="bias"),
        pytest.param({"stride": (2, 1)}, id="pair of strides"),
        pytest.param({"padding": (2, 1)}, id="pair of paddings"),
        pytest.param({"padding": ((2, 1), (0, 3))}, id="padding per side"),
        pytest.param({"dilation": (1, 2)}, id="pair of dilations"),
        pytest.param({"stride": 2**62}, id="stride near 2^63: one output"),
    ],
)
def test_common_calls_need_no_python(
    changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is that of the way through Python."""
    output = plain(**changed)
    assert output is not None
    monkeypatch.setattr(functional, "plain_conv2d", lambda *_: None)
    assert torch.equal(output, convgrad_ext.conv2d(**(ARGUMENTS | changed)))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"input": INPUT[0]}, id="one image"),
        pytest.param({"input": INPUT.as_subclass(Subclass)}, id="subclass"),
        pytest.param({"weight": WEIGHT.as_subclass(Subclass)}, id="weight of a subclass"),
        pytest.param({"bias": BIAS.as_subclass(Subclass)}, id="bias of a subclass"),
        pytest.param({"input": [1.0]}, id="no tensor"),
        pytest.param({"bias": 0}, id="bias is no tensor"),
        pytest.param({"weight": WEIGHT[0, 0]}, id="weight of two dimensions"),
        pytest.param({"stride": [1, 1]}, id="list"),
        pytest.param({"stride": (1,)}, id="tuple of one"),
        pytest.param({"stride": 1.0}, id="float"),
        pytest.param({"stride": True}, id="bool"),
        pytest.param({"stride": Number(1)}, id="int of another class"),
        pytest.param({"dilation": Index()}, id="index"),
        pytest.param({"dilation": (1, None)}, id="half a pair"),
        pytest.param({"padding": "same"}, id="same"),
        pytest.param({"padding": "valid"}, id="valid"),
        pytest.param({"padding": -1}, id="negative"),
        pytest.param({"padding": ((1, 1), 1)}, id="pair of a pair and an int"),
        pytest.param({"padding": ((1, 1, 1), (1, 1))}, id="three sides"),
        pytest.param({"groups": 2**63}, id="beyond 64 bits"),
        pytest.param({"groups": torch.tensor(1)}, id="number of groups in a tensor"),
    ],
)
def test_other_calls_are_handed_back(changed: dict[str, Any]) -> None:
    assert plain(**changed) is None


def test_what_the_operator_refuses_is_refused_at_once() -> None:
    """Python could only ask the same operator."""
    with pytest.raises(RuntimeError, match="to have 2 channels, but got 1 channels instead"):
        plain(input=INPUT[:, :1])


def test_autocast_is_left_to_python() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert plain() is None
        assert convgrad_ext.conv2d(INPUT, WEIGHT).dtype == torch.bfloat16


def test_function_modes_see_the_call() -> None:
    class Mode(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    seen: list[Any] = []
    with Mode():
        assert plain() is None
        convgrad_ext.conv2d(INPUT, WEIGHT)
    assert convgrad_ext.conv2d in seen


def test_a_trace_is_left_to_python() -> None:
    handed_back = []

    def run(input: Tensor) -> Tensor:
        handed_back.append(plain(input=input) is None)
        return input

    torch.jit.trace(run, (INPUT,), check_trace=False)
    assert handed_back == [True]


@pytest.mark.parametrize("count", [0, 6, 8])
def test_it_takes_seven_arguments(count: int) -> None:
    with pytest.raises(TypeError, match=f"plain_conv2d takes 7 arguments, but got {count}"):
        plain_conv2d(*[None] * count)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_ways_agree(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = case.tensors(torch.float64)
    output = convgrad_ext.conv2d(*tensors, **case.params)
    monkeypatch.setattr(functional, "plain_conv2d", lambda *_: None)
    assert torch.equal(output, convgrad_ext.conv2d(*tensors, **case.params))


def test_arguments_are_not_kept() -> None:
    """References are counted by hand in C."""
    stride, padding = (1, 1), ((1, 1), (1, 1))
    input, weight, bias = INPUT.clone(), WEIGHT.clone(), BIAS.clone()
    arguments = (input, weight, bias, stride, padding)
    before = [sys.getrefcount(argument) for argument in arguments]
    for _ in range(100):
        plain(input=input, weight=weight, bias=bias, stride=stride, padding=padding)
        plain(input=input, weight=weight, bias=bias, stride=stride, padding="same")
    assert [sys.getrefcount(argument) for argument in arguments] == before
