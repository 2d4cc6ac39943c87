"""Numbers beyond 64 bits, alone or as sums and products: none is wrapped around."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bad_calls import INPUT, OUTPUT, RAW, WEIGHT
from refusals import error_of
from torch import nn

import convgrad_ext

HUGE = 2**63 - 1


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"padding": 2**62}, id="padding"),
        pytest.param({"padding": HUGE}, id="padding_int64"),
        pytest.param({"padding": ((0, 0), (0, HUGE))}, id="padding_of_one_side"),
        pytest.param({"dilation": 2**62}, id="dilation"),
        pytest.param({"dilation": HUGE}, id="dilation_int64"),
        pytest.param({"dilation": HUGE, "padding": "same"}, id="dilation_same"),
    ],
)
def test_extents_beyond_64_bits_are_not_wrapped_around(params: dict[str, Any]) -> None:
    """Their sums and products do not fit into int64: an error, and no output of another size."""
    with pytest.raises((RuntimeError, ValueError, OverflowError)):
        convgrad_ext.conv2d(torch.ones(INPUT), torch.ones(WEIGHT), **params)


TOO_LARGE = 2**63, -(2**63) - 1, 10**30


@pytest.mark.parametrize("number", TOO_LARGE, ids=["2**63", "-2**63-1", "10**30"])
@pytest.mark.parametrize("form", [lambda n: n, lambda n: (n, 1), lambda n: [1, n]])
@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
def test_numbers_beyond_64_bits(name: str, form: Any, number: int) -> None:
    """PyTorch's type: a ValueError for a number, a TypeError for a number in a tuple."""
    input, weight, grad_output = (torch.ones(size) for size in (INPUT, WEIGHT, OUTPUT))
    value = form(number)
    kind = error_of(F.conv2d, input, weight, **{name: value})[0]
    assert kind is (ValueError if isinstance(value, int) else TypeError)
    ours = kind, f"convgrad_ext: {name} must be within -2**63 and 2**63 - 1, but got {value}"
    assert error_of(convgrad_ext.conv2d, input, weight, **{name: value}) == ours
    assert error_of(convgrad_ext.conv2d_input, INPUT, weight, grad_output, **{name: value}) == ours
    assert error_of(convgrad_ext.conv2d_weight, input, WEIGHT, grad_output, **{name: value}) == ours
    layers = (made(4, 6, 3, **{name: value}) for made in (convgrad_ext.Conv2d, nn.Conv2d))
    assert len({error_of(layer, input)[0] for layer in layers}) == 1


@pytest.mark.parametrize("number", TOO_LARGE, ids=["2**63", "-2**63-1", "10**30"])
def test_other_numbers_beyond_64_bits(number: int) -> None:
    input, weight, grad_output = (torch.ones(size) for size in (INPUT, WEIGHT, OUTPUT))
    message = "convgrad_ext: {} must be within -2**63 and 2**63 - 1, but got {}"
    assert error_of(F.conv2d, input, weight, groups=number)[0] is ValueError
    ours = ValueError, message.format("groups", number)
    assert error_of(convgrad_ext.conv2d, input, weight, groups=number) == ours
    sides = ((0, number), (0, 0))
    ours = TypeError, message.format("padding", sides)
    assert error_of(convgrad_ext.conv2d, input, weight, padding=sides) == ours
    ours = ValueError, message.format("stride", number)
    assert error_of(convgrad_ext.conv2d, input, weight, padding="same", stride=number) == ours
    size = (2, 4, 5, number)
    ours = TypeError, message.format("input_size", size)
    assert error_of(convgrad_ext.conv2d_input, size, weight, grad_output) == ours
    ours = TypeError, message.format("weight_size", size)
    assert error_of(convgrad_ext.conv2d_weight, input, size, grad_output) == ours


@pytest.mark.parametrize("dilation", [2**62, HUGE, (HUGE, 1)], ids=["2**62", "int64", "one_axis"])
@pytest.mark.parametrize("padding", [0, "same"])
def test_one_tap_has_any_dilation(padding: Any, dilation: Any) -> None:
    """There is no next tap, so every product fits into int64."""
    input, weight = torch.ones(INPUT), torch.ones(6, 4, 1, 1)
    params = {"padding": padding, "dilation": dilation}
    theirs = F.conv2d(input, weight, **params)
    assert torch.equal(convgrad_ext.conv2d(input, weight, **params), theirs)
    grad_input = convgrad_ext.conv2d_input(INPUT, weight, theirs, **params)
    assert torch.equal(grad_input, torch.full(INPUT, 24.0))  # 6 filters, each output is 4
    grad_weight = convgrad_ext.conv2d_weight(input, (6, 4, 1, 1), theirs, **params)
    assert torch.equal(grad_weight, torch.full((6, 4, 1, 1), 200.0))  # 2 images of 25 pixels


def test_any_stride_up_to_64_bits() -> None:
    """One output; the stride has no further use."""
    input, weight = torch.ones(INPUT), torch.ones(WEIGHT)
    ours = convgrad_ext.conv2d(input, weight, stride=HUGE)
    assert torch.equal(ours, F.conv2d(input, weight, stride=HUGE))


FULL = 2**62 - 1  # of one side, the most that is taken


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("kernel", [3, 1])
@pytest.mark.parametrize(
    ("sides", "dimension"),
    [
        ((FULL, FULL, 0, 0), 0),
        ((0, 0, FULL, FULL), 1),
        ((FULL, FULL - 3, 0, 0), 0),
        ((FULL, FULL, FULL, FULL), 0),
    ],
    ids=["rows", "columns", "by_one", "both"],
)
def test_padded_extents_beyond_64_bits(
    sides: tuple[int, ...], dimension: int, kernel: int, device: str
) -> None:
    """The message has the sides as they were given, not a wrapped negative number."""
    input = torch.ones(INPUT, device=device)
    weight = torch.ones(6, 4, kernel, kernel, device=device)
    grad_output = torch.ones(OUTPUT, device=device)
    lo, hi = sides[2 * dimension : 2 * dimension + 2]
    ours = (
        RuntimeError,
        f"Given padding=({lo}, {hi}) at dimension {dimension} of 5 pixels, expected at most "
        "9223372036854775807 pixels with the padding",
    )
    params = (1, 1), sides, (1, 1), 1
    assert error_of(RAW.conv2d, input, weight, None, *params) == ours
    assert error_of(RAW.conv2d_input, INPUT, weight, grad_output, *params) == ours
    size = tuple(weight.shape)
    assert error_of(RAW.conv2d_weight, input, size, grad_output, *params) == ours


def test_channels_beyond_64_bits() -> None:
    """4 groups of 2**62 channels are 2**64, which would wrap round to the input's none."""
    input, grad_output = torch.ones(1, 0, 5, 5), torch.ones(1, 4, 5, 5)
    with pytest.raises(RuntimeError, match="to have 9223372036854775807 channels, but got 0"):
        convgrad_ext.conv2d_weight(input, (4, 2**62, 1, 1), grad_output, groups=4)
