"""The one place where the tests' tolerances come from."""

from __future__ import annotations

import torch
from torch import Tensor


def rounding_bound(reduction: int, dtype: torch.dtype) -> float:
    """The relative error of a sum of `reduction` products, with respect to the sum of magnitudes.

    A sum of n rounded products in any order errs by at most n*u/(1 - n*u) times the sum of their
    magnitudes, u = eps/2 (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2).
    Both sides of a comparison err, so the bound is n*eps; a complex product is a sum of two, hence
    the factor 2. Half precision accumulates in float32 and rounds once more at the end.
    """
    terms = 2 * max(reduction, 1) + 1
    if dtype in (torch.float16, torch.bfloat16):
        return torch.finfo(dtype).eps + terms * torch.finfo(torch.float32).eps
    return terms * torch.finfo(dtype).eps


def assert_sums_equal(actual: Tensor, expected: Tensor, magnitudes: Tensor, reduction: int) -> None:
    """Equal up to rounding: `magnitudes` is the same sum with every factor's absolute value."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    bound = rounding_bound(reduction, actual.dtype) * magnitudes.abs().double()
    wide = torch.complex128 if actual.is_complex() else torch.float64
    error = (actual.to(wide) - expected.to(wide)).abs()
    worst = (error - bound).argmax() if error.numel() else None
    assert bool((error <= bound).all()), (
        f"element {worst} of {tuple(actual.shape)} is off by {error.flatten()[worst]:.3e}, "
        f"allowed {bound.flatten()[worst]:.3e}"
    )
