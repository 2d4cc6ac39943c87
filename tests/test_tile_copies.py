"""The copies between tensors and vectors, of each instruction set: csrc/cpu/kernels/copies.inl."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from tile_memory import dtypes, expect, isas, lanes_of, numbers, poisoned, source
from torch import Tensor

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


ONE_ROW = (1, 0, 0)


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
@pytest.mark.parametrize("step", [1, 2, 3, 4, 7, -1])
def test_a_row(isa: str, dtype: torch.dtype, step: int) -> None:
    """load_rows, split_rows and store_rows have the same correspondence of pixels and numbers."""
    values = numbers(600, dtype)
    memory, first = source(values), origin(step)
    start = (memory[0], memory[1] + first)
    for count in range(70):
        pixels = [values[first + j * step].item() for j in range(count)]
        row = poisoned(80, dtype)
        _C.tile_load_rows(isa, start, step, row, count, ONE_ROW)
        expect(row, dict(enumerate(pixels)))
        even, odd = poisoned(80, dtype), poisoned(80, dtype)
        _C.tile_split_rows(isa, start, step, even, odd, count, ONE_ROW)
        expect(even, dict(enumerate(pixels[::2])))
        expect(odd, dict(enumerate(pixels[1::2])))
        image = poisoned(600, dtype)
        _C.tile_store_rows(isa, memory, 5.0, (image[0], image[1] + first), step, count, ONE_ROW)
        expect(image, {first + j * step: values[j].item() + 5.0 for j in range(count)})


@isas
@dtypes
@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 5, 16, 21])
def test_rows(isa: str, dtype: torch.dtype, step: int, count: int) -> None:
    """Rows are as far apart on either side as it is told: what is between them stays."""
    values = numbers(600, dtype)
    memory, rows = source(values), (3, 90, 40)
    strip = poisoned(200, dtype)
    _C.tile_load_rows(isa, memory, step, strip, count, rows)
    expect(
        strip,
        {r * 40 + j: values[r * 90 + j * step].item() for r in range(3) for j in range(count)},
    )
    even, odd = poisoned(200, dtype), poisoned(200, dtype)
    _C.tile_split_rows(isa, memory, step, even, odd, count, rows)
    for half, first in ((even, 0), (odd, 1)):
        places = product(range(3), range(first, count, 2))
        expect(half, {r * 40 + j // 2: values[r * 90 + j * step].item() for r, j in places})
    image = poisoned(400, dtype)
    _C.tile_store_rows(isa, memory, 5.0, image, step, count, (3, 40, 90))
    expect(
        image,
        {
            r * 90 + j * step: values[r * 40 + j].item() + 5.0
            for r in range(3)
            for j in range(count)
        },
    )


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


def near_bfloat16() -> Tensor:
    """Every number of bfloat16, and those of float32 just off it and around the middle."""
    upper = torch.arange(1 << 16).unsqueeze(1) << 16
    lower = torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    return (upper | lower).flatten().to(torch.int32).view(torch.float32)


@isas
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_result_is_rounded_to_the_nearest_number_of_bfloat16(isa: str, step: int) -> None:
    """To the even one of two, as torch does; infinities and NaN stay what they are."""
    values = near_bfloat16()
    count = len(values)
    rows = torch.full((count * step,), 7, dtype=torch.bfloat16)
    _C.tile_store_rows(isa, (values, 0), 0.0, (rows, 0), step, count, ONE_ROW)
    expected = torch.full_like(rows, 7)
    expected[::step] = values.bfloat16()
    torch.testing.assert_close(rows, expected, rtol=0, atol=0, equal_nan=True)


@isas
@pytest.mark.parametrize("steps", ["lanes_adjacent", "vectors_adjacent", "nothing_adjacent"])
def test_unpacked_results_are_rounded(isa: str, steps: str) -> None:
    width = lanes_of(isa, torch.float32)
    count = (1 << 10) // width
    values = near_bfloat16()[::383][:1024].clone()
    step, lane_stride = {"lanes_adjacent": (width, 1), "vectors_adjacent": (1, count)}.get(
        steps, (2 * width, 2)
    )
    tensor = torch.full((2048,), 7, dtype=torch.bfloat16)
    _C.tile_unpack(isa, (values, 0), (tensor, 0), (step, lane_stride, width, count, width))
    expected = torch.full_like(tensor, 7)
    expected.as_strided((count, width), (step, lane_stride)).copy_(values.view(count, width))
    torch.testing.assert_close(tensor, expected, rtol=0, atol=0, equal_nan=True)
