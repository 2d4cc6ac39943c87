"""Memory for the tests of single kernels: small whole numbers, poison around, and any alignment."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convgrad_ext import _C

ISAS = [isa for isa in ("avx512", "avx2", "baseline") if _C.tile_isa_runs(isa)]
DTYPES = [torch.float32, torch.float64]
OFFSET = 3  # in elements: no vector is aligned
BEHIND = 40  # poison behind, more than a vector

isas = pytest.mark.parametrize("isa", ISAS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def lanes_of(isa: str, dtype: torch.dtype) -> int:
    return _C.tile_shape(isa, dtype.itemsize)[0]


def numbers(size: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Whole numbers from -4 to 4, whose products and sums are exact in every order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, (size,), generator=generator).to(dtype)


def source(values: Tensor) -> tuple[Tensor, int]:
    """The values in memory that is NaN before and behind them."""
    memory = poisoned(values.numel(), values.dtype)
    memory[0][OFFSET : OFFSET + values.numel()] = values
    return memory


def poisoned(size: int, dtype: torch.dtype) -> tuple[Tensor, int]:
    return torch.full((OFFSET + size + BEHIND,), torch.nan, dtype=dtype), OFFSET


def expect(memory: tuple[Tensor, int], written: dict[int, float]) -> None:
    """Of the memory from its offset on, exactly these elements were written, with these values."""
    expected = torch.full_like(memory[0], torch.nan)
    for place, value in written.items():
        expected[memory[1] + place] = value
    torch.testing.assert_close(memory[0], expected, rtol=0, atol=0, equal_nan=True)
