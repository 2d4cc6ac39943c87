"""The geometry that plans tell of: the taps that meet padding, and the phases of grad_input."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from exact import output_extents, pair
from hypothesis import HealthCheck, assume, given, settings
from kernel_names import FAST
from strategies import cases

from convgrad_ext import plans, use_kernel
from convgrad_ext.cases import CASES, Case
from convgrad_ext.plans import PASSES, Plan


def plans_of(case: Case) -> tuple[Plan, ...]:
    input, weight, bias = case.tensors(torch.float32)
    return plans(input, weight, bias, **case.params)


# The taps that meet padding


def share_of_forward(case: Case) -> float:
    """Of all pairs of an output and a tap: those whose input is outside of the image."""
    axes = []
    for axis, outputs in enumerate(output_extents(case)):
        stride, dilation = pair(case.stride)[axis], pair(case.dilation)[axis]
        padding, extent = case.sides[2 * axis], case.image[axis]
        sources = (
            o * stride - padding + k * dilation
            for o, k in product(range(outputs), range(case.kernel[axis]))
        )
        axes.append([0 <= i < extent for i in sources])
    return share_outside(*axes)


def share_of_grad_input(case: Case) -> float:
    """Of all pairs of an input and a tap of its phase: those whose output does not exist.

    The stride of an axis with one output has no effect: it counts as 1.
    """
    axes = []
    for axis, outputs in enumerate(output_extents(case)):
        stride = pair(case.stride)[axis] if outputs > 1 else 1
        dilation, padding = pair(case.dilation)[axis], case.sides[2 * axis]
        at = (
            i + padding - k * dilation
            for i, k in product(range(case.image[axis]), range(case.kernel[axis]))
        )
        axes.append([0 <= place // stride < outputs for place in at if place % stride == 0])
    return share_outside(*axes)


def share_outside(h: list[bool], w: list[bool]) -> float:
    pairs = [a and b for a, b in product(h, w)]
    return pairs.count(False) / len(pairs) if pairs else 0.0


def check_padded_share(case: Case) -> None:
    found = plans_of(case)
    forward, *_ = found
    assert forward.padded_share == pytest.approx(share_of_forward(case))
    assert found[-1].padded_share == pytest.approx(share_of_forward(case))  # the same meetings
    for plan in found:
        assert 0 <= plan.padded_share <= 1
    gradients = [plan for plan in found if plan.pass_name == "grad_input"]
    if len(gradients) == 1:
        assert gradients[0].padded_share == pytest.approx(share_of_grad_input(case))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_padded_share_is_that_of_the_relation(case: Case) -> None:
    check_padded_share(case)


@pytest.mark.usefixtures("kernel")
@given(case=cases())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_padded_share_of_drawn_cases(case: Case) -> None:
    assume(case.N > 0)
    check_padded_share(case)


@pytest.mark.usefixtures("kernel")
def test_padded_share_by_hand() -> None:
    """4x4 pixels under 3x3 taps: an axis has 12 pairs, 2 of them on padding; 100 of 144 count."""
    for plan in plans(torch.empty(1, 1, 4, 4), torch.empty(1, 1, 3, 3), padding=1):
        assert plan.padded_share == pytest.approx(44 / 144)


# Phases


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("kernel_size", "stride", "expected"),
    [
        pytest.param(3, 1, 1, id="stride 1: all inputs are one phase"),
        pytest.param(3, 2, 4, id="two an axis"),
        pytest.param(3, (2, 3), 6, id="the axes differ"),
        pytest.param(1, 3, 9, id="eight of nine meet no tap"),
        pytest.param(2, 20, 64, id="stride 20 of 8 inputs: a phase an input"),
    ],
)
def test_phases_of_grad_input_add_up(kernel_size: int, stride: Any, expected: int) -> None:
    padding = 15 if stride == 20 else 1  # a second output, or else the stride has no effect
    weight = torch.empty(8, 4, kernel_size, kernel_size)
    found = plans(torch.empty(1, 4, 8, 8), weight, None, stride, padding)
    counts = {name: sum(plan.phases for plan in found if plan.pass_name == name) for name in PASSES}
    assert counts == {"forward": 1, "grad_input": expected, "grad_weight": 1}


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({}, 4, id="one for each row of taps"),
        pytest.param({"layout": torch.contiguous_format}, 16, id="channels are far apart"),
        pytest.param({"columns": 14}, 16, id="columns are left over"),
        pytest.param({"padding": (0, 2), "columns": 16}, 16, id="taps meet padding"),
        pytest.param({"groups": 3}, 16, id="a row of taps has channels of other groups"),
        pytest.param({"stride": (4, 5), "columns": 14}, 20, id="pixels between the patches"),
    ],
)
def test_patches_of_adjacent_channels_have_no_phases_of_columns(
    change: dict[str, Any], expected: int, name: str
) -> None:
    groups, layout = change.get("groups", 1), change.get("layout", torch.channels_last)
    input = torch.empty(1, 3, 12, change.get("columns", 12)).contiguous(memory_format=layout)
    weight = torch.empty(6, 3 // groups, 4, 4).contiguous(memory_format=layout)
    params = {"stride": change.get("stride", 4), "padding": change.get("padding", 0)}
    with use_kernel(name):
        found = plans(input, weight, None, **params, groups=groups)
    assert sum(plan.phases for plan in found if plan.pass_name == "grad_input") == expected


@pytest.mark.parametrize("name", FAST)
def test_equal_phases_share_a_plan(name: str) -> None:
    """4x4 taps of stride 2: each phase has 2x2 taps and as many pixels."""
    with use_kernel(name):
        found = plans(torch.empty(1, 32, 8, 8), torch.empty(32, 32, 4, 4), stride=2, padding=1)
    assert [(plan.pass_name, plan.phases) for plan in found] == [
        ("forward", 1),
        ("grad_input", 4),
        ("grad_weight", 1),
    ]
