"""A layer, its operands and the comparison of results, for the two ways that change no class."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from tolerance import assert_sums_equal
from torch import Tensor, nn


def operand(*size: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(size))
    return torch.randn(size, dtype=torch.float64, generator=generator)


IMAGES, FILTERS, BIAS = operand(2, 4, 9, 8), operand(6, 4, 3, 3), operand(6)


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    """Equal up to rounding: no sum here has more than 200 products of size 10."""
    assert_sums_equal(actual, expected, torch.full_like(expected, 2000.0), reduction=200)


def conv(**arguments: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, 3, dtype=torch.float64, **arguments)


class Scaled(nn.Conv2d):
    """A forward of its own, which convert does not change."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * F.conv2d(input, self.weight, self.bias)


def scaled() -> Tensor:
    torch.manual_seed(0)
    return Scaled(4, 6, 3, dtype=torch.float64)(IMAGES)
