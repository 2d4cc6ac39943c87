"""The length of a sum counts products: many taps of one channel are as long as many channels.

Sums of positive numbers show it: each rounding error is as large as the sum has grown by then.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from exact import FORWARD, GRAD_INPUT, GRAD_WEIGHT, Array, Pass, wide
from kernel_names import FAST
from layer_cases import DTYPES, case, generators, uniform
from tolerance import error_of_a_cut_sum
from torch import Tensor

from convgrad_ext.cases import Case

# Not the reference: it adds up in float64, one number after the other, for every dtype.
pytestmark = [
    pytest.mark.parametrize("kernel", FAST, indirect=True),
    pytest.mark.usefixtures("kernel"),
]

# The errors of some hundred sums, and so their root mean square, are random.
CHANCE = 1.25

LONG = [
    (FORWARD, case("62x62", "3,844 taps of one channel", (1, 16), (65, 66), kernel=(62, 62))),
    (FORWARD, case("1x3844", "in a row", (1, 16), (4, 3848), kernel=(1, 3844))),
    (FORWARD, case("3844x1", "in a column", (1, 16), (3848, 4), kernel=(3844, 1))),
    (FORWARD, case("7x7", "and of 78 channels", (78, 16), (10, 11), kernel=(7, 7))),
    (FORWARD, case("1x1", "and of 3,844", (3844, 16), (4, 5), kernel=(1, 1))),
    (FORWARD, case("62x62_strided", "outputs apart", (1, 16), (68, 70), kernel=(62, 62), stride=2)),
    (
        FORWARD,
        case(
            "62x62_depthwise",
            "each channel its own",
            (16, 16),
            (65, 66),
            kernel=(62, 62),
            groups=16,
        ),
    ),
    (GRAD_INPUT, case("62x62", "seen by all", (16, 1), (4, 5), kernel=(62, 62), padding=61)),
    (GRAD_INPUT, case("31x124", "wide", (16, 1), (4, 5), kernel=(31, 124), padding=(30, 123))),
    (GRAD_INPUT, case("124x31", "tall", (16, 1), (4, 5), kernel=(124, 31), padding=(123, 30))),
    (GRAD_INPUT, case("7x7", "and of 78 filters", (16, 78), (5, 6), kernel=(7, 7), padding=6)),
    (GRAD_INPUT, case("3x3", "and of 427", (16, 427), (5, 6), kernel=(3, 3), padding=2)),
    (GRAD_WEIGHT, case("3x3", "3,844 pixels", (3, 12), (64, 64), kernel=(3, 3))),
    (GRAD_WEIGHT, case("row", "one row of pixels", (4, 12), (1, 3850), kernel=(1, 7))),
    (GRAD_WEIGHT, case("column", "or a column", (4, 12), (3850, 1), kernel=(7, 1))),
    (GRAD_WEIGHT, case("batch", "images of 62 pixels", (4, 12), (2, 33), kernel=(1, 3), N=62)),
    (
        GRAD_WEIGHT,
        case("strided", "apart", (3, 12), (125, 125), kernel=(3, 3), stride=2),
    ),
    (
        GRAD_WEIGHT,
        case("depthwise", "alone", (12, 12), (64, 64), kernel=(3, 3), groups=12),
    ),
]


@lru_cache(maxsize=4)
def positive_sums(convolve: Pass, layer: Case, dtype: torch.dtype) -> tuple[list[Tensor], Array]:
    operands = [uniform(0, 1, *drawn).to(dtype) for drawn in generators(convolve, layer)]
    return operands, convolve.exact(layer, *(wide(t) for t in operands))


@DTYPES
@pytest.mark.parametrize(("convolve", "layer"), LONG, ids=str)
def test_sums_err_as_if_cut_into_chains(convolve: Pass, layer: Case, dtype: torch.dtype) -> None:
    """Against the same sums in more digits; a single chain of 3,844 errs seven times as much."""
    assert 3800 <= convolve.products(layer) <= 3900
    operands, exact = positive_sums(convolve, layer, dtype)
    error = wide(convolve.ours(layer, *operands)) - exact
    assert np.sqrt(np.mean(error**2)) <= CHANCE * error_of_a_cut_sum(3844, dtype)
