"""Whether results are right, before anyone asks how fast they came.

The exact results come from F.conv2d in float64 on the same, already rounded, operands. Each sum is
of n products of random numbers, of zero mean and typical size s. Rounding lets each partial sum
err by up to eps/2 times its size, which grows to s * sqrt(n). These errors add up at random too, to
at most about eps/2 * s * n / sqrt(2), where the result has the typical size s * sqrt(n). So an
element may be off by

    safety * eps * sqrt(n) * (root of the mean square of the exact results)  +  eps * |itself|,

the last for the rounding of the result to its own type; eps of the first is that of the type in
which sums are formed, float32 for the half precisions. One product that is missing or wrong is an
error of s: it shows as long as safety * eps * n < 1, which in float32 is n < two million. The bound
for the worst case, n * eps * (sum of magnitudes), would hide it already at n = 4000.

Winograd's loops sum products of transformed tiles, which are larger than those of the formula. Of
independent numbers of variance 1, along one axis, the four products on the way to two results have
the variances 2, 3/2, 3/2, 2 under three taps, of which a result adds three: 5 where the formula has
3. In grad_weight they are 2, 4, 4, 2, of which a tap adds one, and halves of the next two: 4 where
the formula has 2. Over both axes that is (5/3)^2 or 2^2 times the variance, and at most
`WINOGRAD_GROWTH` times the size. One missing product still shows as long as n < a million.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import torch
from torch import Tensor

SAFETY = 4.0
WINOGRAD_GROWTH = 2.0


@dataclass(frozen=True)
class Precision:
    """The spacing at 1 of the type of the results, and of the type in which sums are formed."""

    stored: float
    summed: float

    @staticmethod
    def of(dtype: torch.dtype) -> Precision:
        stored = torch.finfo(dtype).eps
        summed = torch.finfo(torch.float32).eps if dtype.itemsize == 2 else stored
        return Precision(stored, summed)

    def doubled(self) -> Precision:
        """For the difference of two results that both err."""
        return Precision(2 * self.stored, 2 * self.summed)

    def grown(self, growth: float) -> Precision:
        """For sums of numbers that are so much larger on the way."""
        return Precision(self.stored, growth * self.summed)


@dataclass(frozen=True)
class Verdict:
    error: float  # the largest, as a part of the typical size of the exact results
    problem: str | None  # one sentence about the first result that is wrong

    @staticmethod
    def of_problem(problem: str) -> Verdict:
        return Verdict(inf, problem)

    @property
    def right(self) -> bool:
        return self.problem is None


def verify(
    names: Sequence[str],
    results: Sequence[Tensor],
    exact: Sequence[Tensor],
    reductions: Sequence[int],
    precision: Precision,
) -> Verdict:
    """Holds each result against the exact one."""
    verdicts = [
        verify_one(name, result, expected, reduction, precision)
        for name, result, expected, reduction in zip(names, results, exact, reductions, strict=True)
    ]
    problems = [verdict.problem for verdict in verdicts if verdict.problem]
    return Verdict(max(v.error for v in verdicts), problems[0] if problems else None)


def verify_one(
    name: str, result: Tensor, exact: Tensor, reduction: int, precision: Precision
) -> Verdict:
    if result.shape != exact.shape:
        return Verdict.of_problem(f"{name} has size {[*result.shape]}, not {[*exact.shape]}")
    exact = exact.double()
    off = (result.double() - exact).abs()
    typical = exact.square().mean().sqrt().item()
    allowed = SAFETY * precision.summed * sqrt(reduction) * typical + precision.stored * exact.abs()
    error = off.max().item() / (typical or 1.0)
    if bool((off <= allowed).all()):  # a NaN is not
        return Verdict(error, None)
    wrong = (~(off <= allowed)).double().mean().item()
    return Verdict(
        error,
        f"{name} is off by up to {error:.1e} of its typical size, "
        f"and {wrong:.2%} of its elements by more than rounding",
    )
