"""The one place where the tests' tolerances come from."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def rounding_bound(reduction: int, dtype: torch.dtype) -> float:
    """The relative error of a sum of `reduction` products, with respect to the sum of magnitudes.

    A sum of n rounded products in any order errs by at most n*u/(1 - n*u) times the sum of their
    magnitudes, u = eps/2 (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2).
    Both sides of a comparison err, so the bound is n*eps. A complex product is a sum of two, hence
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


def own_products_bound(products: NDArray[np.int64], dtype: torch.dtype) -> NDArray[np.float64]:
    """The error of sums of `products` products, with respect to the sums of *their own* magnitudes.

    Where each product is rounded d times, the sum errs by at most d*u/(1 - d*u) times the sum of
    the magnitudes, u = eps/2 (Higham, section 3.1). Added up in any order, a sum of n products has
    d <= n: the product's own rounding, where it is not fused with the addition, and n - 1
    additions, because the first one starts from zero. Sums in a wider type round once at the end,
    hence n + 1. The exact sums that we compare with have rounded too, 2^11 times less or better.
    """
    u = torch.finfo(dtype).eps / 2
    roundings = (products + 1) * u * (1 + 2.0**-10)
    return np.where(products > 0, roundings / (1 - roundings), 0.0)


# No sum of more products runs in one register: the next ones start from zero, and the sums are
# added up one after the other.
LONGEST_CHAIN = 512


@cache
def error_of_a_cut_sum(products: int, dtype: torch.dtype, sums: int = 1000) -> float:
    """The root mean square error of sums of products of numbers from 0 to 1, cut into chains.

    No worst-case bound separates a long chain from a short one, because rounding errors mostly
    cancel. So this adds up such sums one number after the other, each chain and then all of them.
    """
    narrow, wide = {
        torch.float32: (np.float32, np.float64),
        torch.float64: (np.float64, np.longdouble),
    }[dtype]
    a, b = np.random.default_rng(0).random((2, products, sums)).astype(narrow)
    chains = [
        np.add.accumulate(a[i : i + LONGEST_CHAIN] * b[i : i + LONGEST_CHAIN])[-1]
        for i in range(0, products, LONGEST_CHAIN)
    ]
    total = np.add.accumulate(np.stack(chains))[-1]
    exact = (a.astype(wide) * b.astype(wide)).sum(axis=0)
    return float(np.sqrt(np.mean((total.astype(wide) - exact) ** 2)))
