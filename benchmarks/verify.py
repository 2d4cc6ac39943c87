"""Whether results are right, before anyone asks how fast they came.

Each sum is of n products of random numbers of zero mean and typical size s. Rounding lets each
partial sum err by up to eps/2 of its size, which grows to s * sqrt(n). These errors add up at
random too, to at most about eps/2 * s * n / sqrt(2), where results have the typical size
s * sqrt(n). So an element may be off by

    SAFETY * eps * sqrt(n) * (root of the mean square of the exact results)  +  eps * |itself|,

the last for its own rounding. A product that is missing or wrong is an error of s, and shows while
SAFETY * eps * n < 1: in float32, n < two million. The worst case, n * eps, would hide it at 4000.

Winograd's loops sum transformed tiles, which are larger. Of variances 1, the products on the way
to a result have 5 where the formula has 3 along one axis, and 4 where it has 2 in grad_weight: over
both axes at most `WINOGRAD_GROWTH` times the size.
"""

from __future__ import annotations

from math import inf, sqrt

import torch
from torch import Tensor

from benchmarks.layers import Layer

SAFETY = 4.0
WINOGRAD_GROWTH = 2.0


def reduction_of(result: str, layer: Layer) -> int:
    """How many products each sum in a result has."""
    if result in ("grad_weight", "grad_bias"):
        return layer.outputs_per_channel
    channels = layer.C_in if result == "output" else layer.C_out
    return channels // layer.groups * layer.K_h * layer.K_w


def problem_of(
    name: str, result: Tensor, exact: Tensor, reduction: int, growth: float = 1.0
) -> str | None:
    """One sentence if a result is further from the one in float64 than rounding takes it."""
    if result.shape != exact.shape:
        return f"{name} has size {[*result.shape]}, not {[*exact.shape]}"
    stored = torch.finfo(result.dtype).eps
    # Half precisions are summed in float32. In float64 the results that count as exact err as well.
    summed = torch.finfo(torch.float32).eps if result.dtype.itemsize == 2 else stored
    both = 2 if result.dtype == torch.float64 else 1
    off = (result.double() - exact).abs()
    typical = exact.square().mean().sqrt().item()
    sums = SAFETY * growth * summed * sqrt(reduction) * typical
    wrong = ~(off <= both * (sums + stored * exact.abs()))  # a NaN is
    if not wrong.any():
        return None
    error = off.max().item() / typical if typical else inf
    return (
        f"{name} is off by up to {error:.1e} of its typical size, "
        f"and {wrong.double().mean().item():.2%} of its elements by more than rounding"
    )
