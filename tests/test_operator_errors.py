"""The operators of torch.ops.convgrad_ext check their arguments themselves."""

from __future__ import annotations

import pytest
import torch
from bad_calls import INPUT, OUTPUT, PARAMS, RAW, WEIGHT
from refusals import error_of

RANK_TOLD = (
    "Expected 4-dimensional input for 4-dimensional weight [6, 4, 3, 3], but got {}-dimensional"
)


@pytest.mark.parametrize("size", [(4, 5, 5), (1, 2, 4, 5, 5)], ids=["3", "5"])
def test_operators_take_batches_alone(size: tuple[int, ...]) -> None:
    """The unbatched form is the Python function's."""
    input, weight, grad_output = torch.ones(size), torch.ones(WEIGHT), torch.ones(OUTPUT)
    for kind, message in (
        error_of(RAW.conv2d, input, weight, None, *PARAMS),
        error_of(RAW.conv2d_input, size, weight, grad_output, *PARAMS),
        error_of(RAW.conv2d_weight, input, WEIGHT, grad_output, *PARAMS),
    ):
        assert kind is RuntimeError
        assert message.startswith(RANK_TOLD.format(len(size)))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        pytest.param(
            ((1, 1), (0, 0), (1, 1), 1),
            "stride=[1, 1], padding=[0, 0], dilation=[1, 1]",
            id="padding_of_two",
        ),
        pytest.param(
            ((1,), (0, 0, 0, 0), (1, 1), 1),
            "stride=[1], padding=[0, 0, 0, 0], dilation=[1, 1]",
            id="stride_of_one",
        ),
        pytest.param(
            ((), (0, 0, 0, 0), (1, 1), 1),
            "stride=[], padding=[0, 0, 0, 0], dilation=[1, 1]",
            id="stride_of_none",
        ),
        pytest.param(
            ((1, 1), (0, 0, 0, 0), (1, 1, 1), 1),
            "stride=[1, 1], padding=[0, 0, 0, 0], dilation=[1, 1, 1]",
            id="dilation_of_three",
        ),
    ],
)
def test_operators_count_their_numbers(params: tuple, message: str) -> None:
    """They take one form only: reading past the end of a short list would be silent."""
    input, weight, grad_output = torch.ones(INPUT), torch.ones(WEIGHT), torch.ones(OUTPUT)
    ours = (
        RuntimeError,
        "expected 2 values of stride, 4 of padding (top, bottom, left, right) and 2 of dilation, "
        "but got " + message,
    )
    assert error_of(RAW.conv2d, input, weight, None, *params) == ours
    assert error_of(RAW.conv2d_input, INPUT, weight, grad_output, *params) == ours
    assert error_of(RAW.conv2d_weight, input, WEIGHT, grad_output, *params) == ours


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (((1, 0), (0, 0, 0, 0), (1, 1), 1), "non-positive stride is not supported"),
        (((1, 1), (0, 0, 0, -1), (1, 1), 1), "negative padding is not supported"),
        (((1, 1), (0, 0, 0, 0), (0, 1), 1), "non-positive dilation is not supported"),
        (((1, 1), (0, 0, 0, 0), (1, 1), 0), "non-positive groups is not supported"),
    ],
    ids=["stride", "padding", "dilation", "groups"],
)
def test_operators_check_for_themselves(params: tuple, message: str) -> None:
    input, weight, grad_output = torch.ones(INPUT), torch.ones(WEIGHT), torch.ones(OUTPUT)
    ours = RuntimeError, message
    assert error_of(RAW.conv2d, input, weight, None, *params) == ours
    assert error_of(RAW.conv2d_input, INPUT, weight, grad_output, *params) == ours
    assert error_of(RAW.conv2d_weight, input, WEIGHT, grad_output, *params) == ours
