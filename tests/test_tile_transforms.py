"""Winograd's transforms of each instruction set against the matrices of F(2x2, 3x3).

A. Lavin, S. Gray, Fast algorithms for convolutional neural networks, arXiv:1509.09308, section 4.1:
a tile of outputs is A^T [(G g G^T) * (B^T d B)] A.
"""

from __future__ import annotations

import pytest
import torch
from tile_memory import dtypes, isas, lanes_of, numbers, source
from torch import Tensor
from torch.nn import functional as F

from convgrad_ext import _C

B = torch.tensor([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]).double().T
G = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]).double()
A = torch.tensor([[1, 1, 1, 0], [0, 1, -1, -1]]).double().T

STRIDE = 200  # from number to number of transformed tiles
counts = pytest.mark.parametrize("count", [1, 2, 5, 16, 33])


def room(size: int, dtype: torch.dtype) -> tuple[Tensor, int]:
    return torch.full((size + 100,), torch.nan, dtype=dtype), 3


def tiles_of(memory: tuple[Tensor, int], size: int, count: int) -> Tensor:
    """Numbers [size x size] of `count` tiles, first the tile."""
    memory_numbers = memory[0][memory[1] :][: size * size * STRIDE].view(size, size, STRIDE)
    return memory_numbers[:, :, :count].permute(2, 0, 1).double()


def expect_untouched_between(memory: tuple[Tensor, int], size: int, written: int) -> None:
    """Each number has `written` elements, and NaN from there to the next number."""
    numbers_of = memory[0][memory[1] :][: size * size * STRIDE].view(size * size, STRIDE)
    assert numbers_of[:, written:].isnan().all()
    assert memory[0][: memory[1]].isnan().all()
    assert memory[0][memory[1] + size * size * STRIDE :].isnan().all()


def tiles_in(values: Tensor) -> tuple[Tensor, int]:
    """The numbers of tiles (count, size, size) as the kernels read them."""
    count, size, _ = values.shape
    padded = torch.zeros(size, size, STRIDE, dtype=values.dtype)
    padded[:, :, :count] = values.permute(1, 2, 0)
    return source(padded.flatten())


@isas
@dtypes
@counts
def test_sources(isa: str, dtype: torch.dtype, count: int) -> None:
    """B^T d B of tiles that overlap by two columns; even columns of a row come first."""
    row = numbers(4 * (2 * count + 2), dtype).view(4, 2 * count + 2)
    half = count + 40
    halves = torch.zeros(4, 2, half, dtype=dtype)
    halves[:, 0, : count + 1], halves[:, 1, : count + 1] = row[:, ::2], row[:, 1::2]
    transformed = room(16 * STRIDE, dtype)
    _C.tile_transform_sources(
        isa, source(halves.flatten()), 2 * half, half, transformed, STRIDE, count
    )
    d = torch.stack([row[:, 2 * p : 2 * p + 4] for p in range(count)]).double()
    assert torch.equal(tiles_of(transformed, 4, count), B.T @ d @ B)
    lanes = lanes_of(isa, dtype)
    expect_untouched_between(transformed, 4, -(-count // lanes) * lanes)  # whole vectors


@isas
@dtypes
@pytest.mark.parametrize("reversed_taps", [False, True])
def test_taps(isa: str, dtype: torch.dtype, reversed_taps: bool) -> None:
    """G g G^T of taps in reading order, or from the last one on."""
    lanes, vectors = lanes_of(isa, dtype), 3
    count = vectors * lanes
    g = numbers(9 * count, dtype).view(9, count)
    memory = source(g.flatten())
    start, down, right = (8 * count, -3 * count, -count) if reversed_taps else (0, 3 * count, count)
    transformed = room(16 * STRIDE, dtype)
    _C.tile_transform_taps(
        isa, (memory[0], memory[1] + start), (down, right), transformed, STRIDE, vectors
    )
    taps = g.flip(0) if reversed_taps else g
    expected = G @ taps.T.reshape(count, 3, 3).double() @ G.T
    assert torch.equal(tiles_of(transformed, 4, count), expected)
    expect_untouched_between(transformed, 4, count)


@isas
@dtypes
@counts
def test_outputs(isa: str, dtype: torch.dtype, count: int) -> None:
    """A^T m A + bias, the pixels of all tiles in the order of the two rows."""
    m = numbers(16 * count, dtype).view(count, 4, 4)
    upper, lower = room(2 * count + 80, dtype), room(2 * count + 80, dtype)
    _C.tile_restore_outputs(isa, tiles_in(m), STRIDE, 7.0, upper, lower, count)
    expected = A.T @ m.double() @ A + 7
    for memory, row in ((upper, 0), (lower, 1)):
        pixels = memory[0][memory[1] :][: 2 * count].double()
        assert torch.equal(pixels, expected[:, row].flatten())
        lanes = lanes_of(isa, dtype)
        assert memory[0][memory[1] + 2 * (-(-count // lanes) * lanes) :].isnan().all()


@isas
@dtypes
@pytest.mark.parametrize("count", [1, 2, 5])
def test_grads(isa: str, dtype: torch.dtype, count: int) -> None:
    """A y A^T: a number of grad_output is a vector of channels."""
    lanes = lanes_of(isa, dtype)
    y = numbers(4 * count * lanes, dtype).view(2, 2 * count, lanes)
    transformed = room(16 * STRIDE, dtype)
    _C.tile_transform_grads(
        isa, source(y[0].flatten()), source(y[1].flatten()), transformed, STRIDE, count
    )
    tiles = y.view(2, count, 2, lanes).permute(1, 3, 0, 2).reshape(count * lanes, 2, 2).double()
    assert torch.equal(tiles_of(transformed, 4, count * lanes), A @ tiles @ A.T)
    expect_untouched_between(transformed, 4, count * lanes)


@isas
@dtypes
@pytest.mark.parametrize("vectors", [1, 2, 7])
def test_restored_taps(isa: str, dtype: torch.dtype, vectors: int) -> None:
    """G^T m G."""
    count = vectors * lanes_of(isa, dtype)
    m = numbers(16 * count, dtype).view(count, 4, 4)
    taps = room(16 * STRIDE, dtype)
    _C.tile_restore_taps(isa, tiles_in(m), taps, STRIDE, vectors)
    got = taps[0][taps[1] :][: 9 * STRIDE].view(3, 3, STRIDE)[:, :, :count].permute(2, 0, 1)
    assert torch.equal(got.double(), G.T @ m.double() @ G)
    expect_untouched_between(taps, 3, count)


@isas
@dtypes
def test_the_kernels_together_are_a_correlation(isa: str, dtype: torch.dtype) -> None:
    """One tile: its sources and taps transformed, multiplied and restored, without the matrices."""
    lanes = lanes_of(isa, dtype)
    d, g = numbers(16, dtype).view(4, 4), numbers(9, dtype, seed=1).view(3, 3)
    halves = torch.zeros(4, 2, 40, dtype=dtype)
    halves[:, 0, :2], halves[:, 1, :2] = d[:, ::2], d[:, 1::2]
    sources, taps = room(16 * STRIDE, dtype), room(16 * STRIDE, dtype)
    _C.tile_transform_sources(isa, source(halves.flatten()), 80, 40, sources, STRIDE, 1)
    vectors = g.flatten()[:, None].expand(9, lanes).flatten()
    _C.tile_transform_taps(isa, source(vectors), (3 * lanes, lanes), taps, STRIDE, 1)
    m = (tiles_of(sources, 4, 1) * tiles_of(taps, 4, 1)).to(dtype)
    upper, lower = room(80, dtype), room(80, dtype)
    _C.tile_restore_outputs(isa, tiles_in(m), STRIDE, 0.0, upper, lower, 1)
    pixels = torch.stack([memory[0][memory[1] :][:2] for memory in (upper, lower)])
    assert torch.equal(pixels, F.conv2d(d[None, None], g[None, None])[0, 0])


def test_the_matrices_are_those_of_a_correlation() -> None:
    """The identity itself, so that no test above rests on a wrong matrix."""
    d, g = numbers(16, torch.float64).view(4, 4), numbers(9, torch.float64, seed=1).view(3, 3)
    outputs = A.T @ ((G @ g @ G.T) * (B.T @ d @ B)) @ A
    assert torch.equal(outputs, F.conv2d(d[None, None], g[None, None])[0, 0])
