"""python -m convgrad_ext explain: what it prints is evaluated, and compared with autograd."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from convgrad_ext.__main__ import main
from convgrad_ext.explain import AxisOfLayer, explain
from convgrad_ext.explain.text import listed

PLAIN = AxisOfLayer("row", 7, 3, stride=2, padding=1, dilation=1)
FACTOR = AxisOfLayer("column", 9, 3, stride=4, padding=1, dilation=2)

LINE = re.compile(r"    (\w) = ([\d, .]+): (.*)")


@st.composite
def axes(draw: st.DrawFn) -> AxisOfLayer:
    kernel, dilation, padding = (draw(st.integers(low, 5)) for low in (1, 1, 0))
    span = dilation * (kernel - 1) + 1
    least = max(1, span - 2 * padding)
    size = draw(st.integers(least, least + 9))
    return AxisOfLayer("row", size, kernel, draw(st.integers(1, 5)), padding, dilation)


class Inside(list):
    """The numbers of an axis; zero outside of it, and between two of them."""

    def __getitem__(self, index: float) -> float:
        whole = index == int(index) and 0 <= index < len(self)
        return super().__getitem__(int(index)) if whole else 0


def unlisted(text: str) -> list[int]:
    """1, 3, ..., 9 in full."""
    numbers = [int(part) for part in text.split(", ") if part != "..."]
    if "..." not in text:
        return numbers
    first, second, last = numbers
    return list(range(first, last + 1, second - first))


def owners(lines: list[str], owner: str) -> dict[int, str]:
    """The right-hand side that is printed for each owner."""
    found = [match for line in lines if (match := LINE.match(line)) and match[1] == owner]
    return {index: match[3] for match in found for index in unlisted(match[2])}


def check(axis: AxisOfLayer) -> None:
    lines = list(explain([axis]))
    generator = torch.Generator().manual_seed(axis.input)
    image, kernel = (
        torch.randint(1, 9, (1, 1, n), generator=generator).double().requires_grad_()
        for n in (axis.input, axis.kernel)
    )
    output = F.conv1d(image, kernel, None, axis.stride, axis.padding, axis.dilation)
    grad = torch.randint(1, 9, output.shape, generator=generator).double()
    dx, dw = (g.flatten().tolist() for g in torch.autograd.grad(output, (image, kernel), grad))
    numbers = {
        "input": Inside(image.flatten().tolist()),
        "weight": Inside(kernel.flatten().tolist()),
        "grad_output": Inside(grad.flatten().tolist()),
    }

    def over(text: str, summed: str, formula: str, **owner: int) -> float:
        if text.startswith("nothing"):
            return 0
        terms = unlisted(text.removeprefix(f"{summed} = "))
        return sum(eval(formula, {}, numbers | owner | {summed: index}) for index in terms)

    sums = {line.split(":")[0].strip(): line.split(" of ", 1)[1] for line in lines if "sum" in line}
    forward = {o: over(t, "k", sums["forward"], o=o) for o, t in owners(lines, "o").items()}
    assert [forward[o] for o in range(len(forward))] == output.flatten().tolist()
    weights = {k: over(t, "o", sums["grad_weight"], k=k) for k, t in owners(lines, "k").items()}
    assert [weights[k] for k in range(len(weights))] == dw
    inputs = owners(lines, "i")
    assert sorted(inputs) == list(range(axis.input))
    for i, text in inputs.items():
        formula = text.removeprefix("grad_input[i] = ")
        assert eval(formula, {}, numbers | {"i": i}) == dx[i]


@pytest.mark.parametrize("axis", [PLAIN, FACTOR], ids=["plain", "factor_of_stride_and_dilation"])
def test_the_printed_formulas_give_the_gradients(axis: AxisOfLayer) -> None:
    check(axis)


@given(axes())
def test_so_do_those_of_any_axis(axis: AxisOfLayer) -> None:
    check(axis)


def test_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows of stride 2 in two phases; the last row of six is left over."""
    assert main(["explain", "--input", "6", "5", "--kernel", "3", "--stride", "2", "1"]) == 0
    rows, columns, work = capsys.readouterr().out.split("\n\n")
    assert (
        "i = 0, 2, 4: grad_input[i] = grad_output[i/2] * weight[0] + grad_output[(i - 2)/2] *"
        in rows
    )
    assert "i = 1, 3, 5: grad_input[i] = grad_output[(i - 1)/2] * weight[1]" in rows
    assert "no output reads i = 5: their gradient is 0" in rows
    assert (
        "i = 0, 1, ..., 4: grad_input[i] = grad_output[i] * weight[0] + grad_output[i - 1]"
        in columns
    )
    assert work.startswith(f"Each pass multiplies {2 * 3 * 3 * 3} times")
    assert f"would multiply {6 * 3 * 5 * 3} times" in work


def test_pixels_that_no_tap_meets_are_named() -> None:
    assert any("grad_input[i] = 0" in line for line in explain([FACTOR]))


def test_long_lists_are_shortened() -> None:
    assert listed(range(0, 100, 3)) == "0, 3, ..., 99"
    assert listed([0, 1, 5, 6]) == "0, 1, 5, 6"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--kernel", "9"],
            "a kernel of 9 taps and dilation 1 spans 9 rows, but the padded input has 7",
        ),
        (["--stride", "0"], "argument --stride: must be a number from 1 to 512, but got '0'"),
        (["--padding", "-1"], "argument --padding: must be a number from 0 to 512, but got '-1'"),
        (["--input", "1", "2", "3"], "--input must be one or two numbers, but got 3"),
    ],
    ids=["kernel_exceeds_input", "no_stride", "negative_padding", "three_axes"],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["explain", *arguments])
    except SystemExit as end:
        code = end.code
    assert code == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].endswith(message)
