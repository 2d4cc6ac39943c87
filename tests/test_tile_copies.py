"""The copies between tensors and vectors, of each instruction set: csrc/cpu/kernels/copies.inl."""

from __future__ import annotations

import pytest
import torch
from tile_memory import dtypes, expect, isas, lanes_of, numbers, poisoned, source

from convgrad_ext import _C

# Below, at and above the four of a block; no multiple of four; more than the 64 of a turn.
COUNTS = [0, 1, 3, 4, 5, 7, 8, 63, 64, 66, 70]
STEPS = {  # step and lane_stride of the tensor: where vector q and lane l are
    "lanes_adjacent": (33, 1),
    "vectors_adjacent": (1, 75),
    "nothing_adjacent": (3, 211),
    "backwards": (-1, 75),
}


def origin(step: int) -> int:
    """A place from which a negative step stays inside of the memory."""
    return 80 if step < 0 else 0


@isas
@dtypes
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("count", COUNTS)
def test_pack(isa: str, dtype: torch.dtype, steps: str, count: int) -> None:
    """Lanes that the tensor does not have are zero, and nothing else is written."""
    (step, lane_stride), width = STEPS[steps], lanes_of(isa, dtype)
    values = numbers(6000, dtype)
    memory, first, stride = source(values), origin(step), width + 3
    for lanes in range(1, width + 1):
        vectors = poisoned(71 * stride, dtype)
        _C.tile_pack(
            isa, (memory[0], memory[1] + first), vectors, (step, lane_stride, stride, count, lanes)
        )
        expect(
            vectors,
            {
                q * stride + lane: values[first + q * step + lane * lane_stride].item()
                if lane < lanes
                else 0.0
                for q in range(count)
                for lane in range(width)
            },
        )


@isas
@dtypes
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("count", COUNTS)
def test_unpack(isa: str, dtype: torch.dtype, steps: str, count: int) -> None:
    """Lanes that the tensor does not have are not stored."""
    (step, lane_stride), width = STEPS[steps], lanes_of(isa, dtype)
    stride = width + 3
    values = numbers(71 * stride, dtype)
    vectors, first = source(values), origin(step)
    for lanes in range(1, width + 1):
        tensor = poisoned(6000, dtype)
        _C.tile_unpack(
            isa, vectors, (tensor[0], tensor[1] + first), (step, lane_stride, stride, count, lanes)
        )
        expect(
            tensor,
            {
                first + q * step + lane * lane_stride: values[q * stride + lane].item()
                for q in range(count)
                for lane in range(lanes)
            },
        )


@isas
@dtypes
@pytest.mark.parametrize("step", [1, 2, 3, 7, -1])
def test_rows(isa: str, dtype: torch.dtype, step: int) -> None:
    """load_row, split_row and store_row have the same correspondence of pixels and numbers."""
    values = numbers(600, dtype)
    memory, first = source(values), origin(step)
    start = (memory[0], memory[1] + first)
    for count in range(70):
        pixels = [values[first + j * step].item() for j in range(count)]
        row = poisoned(80, dtype)
        _C.tile_load_row(isa, start, step, row, count)
        expect(row, dict(enumerate(pixels)))
        even, odd = poisoned(80, dtype), poisoned(80, dtype)
        _C.tile_split_row(isa, start, step, even, odd, count)
        expect(even, dict(enumerate(pixels[::2])))
        expect(odd, dict(enumerate(pixels[1::2])))
        image = poisoned(600, dtype)
        _C.tile_store_row(isa, memory, 5.0, (image[0], image[1] + first), step, count)
        expect(image, {first + j * step: values[j].item() + 5.0 for j in range(count)})


@isas
@dtypes
def test_copy_vectors(isa: str, dtype: torch.dtype) -> None:
    width = lanes_of(isa, dtype)
    values = numbers(600, dtype)
    for count in (0, 1, 5):
        to = poisoned(600, dtype)
        _C.tile_copy_vectors(isa, source(values), width + 2, to, 2 * width + 1, count)
        expect(
            to,
            {
                q * (2 * width + 1) + lane: values[q * (width + 2) + lane].item()
                for q in range(count)
                for lane in range(width)
            },
        )
