"""bfloat16 in pairs: csrc/cpu/kernels/avx512_bf16.cpp, and the passes of csrc/cpu/pairs.cpp."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from kernel_names import FAST, PAIRS
from strategies import cases
from test_passes import Formats, check_rounding, ours, torchs, whole_numbers
from test_tiles import PANEL_STRIDE, REDUCTIONS, VECTORS, expected_sums
from tile_memory import expect, numbers, poisoned, source
from torch import Tensor

import convgrad_ext
from convgrad_ext import _C
from convgrad_ext.cases import CASES, Case

pytestmark = pytest.mark.skipif(
    not PAIRS, reason="this processor does not multiply pairs of bfloat16 numbers"
)

ISA = "avx512_bf16"
LAYOUT = pytest.mark.parametrize(
    "formats", [Formats(), Formats(*[torch.channels_last] * 2)], ids=["nchw", "channels_last"]
)
DENSE = Case(
    "dense",
    "a product of matrices",
    N=4,
    channels=(16, 40),
    image=(9, 11),
    kernel=(3, 3),
    padding=1,
)
UNPAIRED = [
    replace(DENSE, name="odd_channels", channels=(17, 33), reason="a zero is behind the last one"),
    replace(DENSE, name="odd_images", N=5, reason="a zero image is behind the last one"),
    replace(DENSE, name="one_image", N=1, reason="grad_weight has no pair"),
    replace(DENSE, name="odd_groups", channels=(15, 21), groups=3, reason="pairs end with a group"),
    replace(DENSE, name="few_filters", channels=(24, 2), reason="lanes are pixels: rowwise"),
    replace(
        DENSE,
        name="patches",
        kernel=(3, 3),
        stride=3,
        padding=0,
        image=(9, 12),
        reason="no overlap",
    ),
]


def pairs(values: Tensor) -> Tensor:
    """Two by two in one float32, the first one in the lower half."""
    return values.bfloat16().view(torch.float32)


# The tile


@pytest.mark.parametrize("vecs", [1, 2, 3, 4])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("row_stride", [1, 13])
@pytest.mark.parametrize("vectors", VECTORS)
def test_a_tile_adds_both_products_of_every_pair(
    vecs: int, reduction: str, row_stride: int, vectors: str
) -> None:
    """The contract of a tile of numbers, once for the lower halves and once for the upper ones."""
    lanes, accs = _C.tile_shape(ISA, 4)
    a, b = numbers(2000, torch.float32, seed=1), numbers(10000, torch.float32, seed=2)
    memory_a, memory_b = source(pairs(a)), source(pairs(b))
    width = vecs * lanes
    steps: dict[str, Any] = {"b_step": lanes, **REDUCTIONS[reduction], "row_stride": row_stride}
    steps |= {**VECTORS[vectors], "acc_stride": width + 5}
    for rows in range(1, min(28, accs // vecs) + 1):
        acc = poisoned(rows * (width + 5), torch.float32)
        start = (memory_a[0], memory_a[1] + 64)
        _C.tile(ISA, (rows, vecs), start, memory_b, acc, steps, True)
        sums = sum(
            expected_sums(a[half::2], b[half::2], steps, rows, width, lanes) for half in (0, 1)
        )
        places = {(r, x): r * (width + 5) + x for r in range(rows) for x in range(width)}
        expect(acc, {place: sums[at].item() for at, place in places.items()})
    assert 4 * lanes <= PANEL_STRIDE


# The passes


def takes_pairs(case: Case) -> set[str]:
    """The passes whose plan has pairs."""
    image, weight = (
        torch.empty(s, dtype=torch.bfloat16) for s in (case.input_size, case.weight_size)
    )
    found = convgrad_ext.plans(image, weight, None, **case.params)
    return {plan.pass_name for plan in found if "numbers" in plan.blocking}


def test_plans_say_so() -> None:
    every = {"forward", "grad_input", "grad_weight"}
    assert takes_pairs(DENSE) == every
    assert takes_pairs(replace(DENSE, N=1)) == {"forward", "grad_input"}
    assert takes_pairs(replace(DENSE, channels=(1, 8))) == {"grad_input"}
    assert takes_pairs(replace(DENSE, channels=(8, 1))) == {"forward", "grad_weight"}
    assert takes_pairs(replace(DENSE, channels=(16, 16), groups=16)) == set()
    with convgrad_ext.use_kernel(FAST[0]):
        assert takes_pairs(DENSE) == set()


@LAYOUT
@pytest.mark.parametrize("case", [*CASES, *UNPAIRED], ids=str)
def test_the_exact_result_is_rounded_once(case: Case, formats: Formats) -> None:
    check_rounding(case, torch.bfloat16, formats)


@settings(max_examples=60)
@given(case=cases())
def test_any_geometry(case: Case) -> None:
    check_rounding(case, torch.bfloat16)


@LAYOUT
@pytest.mark.parametrize("case", UNPAIRED, ids=str)
def test_whole_numbers_are_exact(case: Case, formats: Formats) -> None:
    """Sums below 2^24: a product that is missing or added twice shows in every digit."""
    tensors = [
        t.contiguous(memory_format=f)
        for t, f in zip(
            whole_numbers(case, largest=3),
            (formats.images, formats.weight, torch.contiguous_format, formats.images),
            strict=True,
        )
    ]
    actual = ours(case, *(t.bfloat16() for t in tensors))
    for mine, exact in zip(actual, torchs(case, *tensors), strict=True):
        assert torch.equal(mine, exact.bfloat16())


@LAYOUT
@pytest.mark.parametrize("case", [DENSE, *UNPAIRED], ids=str)
def test_the_batch_is_its_images_and_the_filters_are_their_halves(
    case: Case, formats: Formats
) -> None:
    x, w = (
        t.bfloat16().contiguous(memory_format=f)
        for t, f in zip(
            case.tensors(torch.float32)[:2], (formats.images, formats.weight), strict=True
        )
    )
    whole = convgrad_ext.conv2d(x, w, **case.params)
    assert torch.equal(whole[:1], convgrad_ext.conv2d(x[:1], w, **case.params))
    if case.groups == 1:
        half = convgrad_ext.conv2d(x, w[: len(w) // 2], **case.params)
        assert torch.equal(whole[:, : len(w) // 2], half)


@pytest.mark.parametrize("special", [torch.inf, torch.nan], ids=str)
@pytest.mark.parametrize("channel", [4, 5], ids=["lower_half", "upper_half"])
@pytest.mark.parametrize("filters", [2, 40], ids=["rowwise", "direct"])
@LAYOUT
def test_padding_meets_no_infinite_weight(
    filters: int, channel: int, special: float, formats: Formats
) -> None:
    """The corner weight meets no pixel of the first row and column; the rest of its pair does."""
    x = torch.ones(2, 24, 6, 20, dtype=torch.bfloat16).contiguous(memory_format=formats.images)
    w = torch.ones(filters, 24, 3, 3, dtype=torch.bfloat16)
    finite = convgrad_ext.conv2d(x, w, padding=1)
    w[1, channel, 0, 0] = special
    w = w.contiguous(memory_format=formats.weight)
    y = convgrad_ext.conv2d(x, w, padding=1)
    assert torch.equal(y[:, 0], finite[:, 0])
    assert torch.equal(y[:, 1, 0], finite[:, 1, 0])
    assert torch.equal(y[:, 1, :, 0], finite[:, 1, :, 0])
    assert not y[:, 1, 1:, 1:].isfinite().any()


def test_numbers_of_any_size_meet() -> None:
    """Products from 2^-120 to 2^120: each result is off by a rounding of its own products."""
    generator = torch.Generator().manual_seed(0)
    x, w = (
        (
            torch.randn(size, generator=generator, dtype=torch.float64)
            * 2.0 ** torch.randint(-60, 61, (1, size[1], 1, 1), generator=generator)
        ).bfloat16()
        for size in (DENSE.input_size, DENSE.weight_size)
    )
    exact = DENSE.torch_conv2d(x.double(), w.double())
    own = DENSE.torch_conv2d(x.double().abs(), w.double().abs())
    error = (convgrad_ext.conv2d(x, w, padding=1).double() - exact).abs()
    half, sums = torch.finfo(torch.bfloat16).eps / 2, 16 * 9 * torch.finfo(torch.float32).eps
    assert bool((error <= exact.abs() * half + own * sums).all())


def test_digits_are_those_of_any_number_of_threads() -> None:
    x, w, _ = (t.bfloat16() for t in replace(DENSE, N=9, image=(40, 50)).tensors(torch.float32))
    y = convgrad_ext.conv2d(x, w, padding=1)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(
            (
                convgrad_ext.conv2d(x, w, padding=1),
                convgrad_ext.conv2d_input(x.shape, w, y, padding=1),
                convgrad_ext.conv2d_weight(x, w.shape, y, padding=1),
            )
        )
    torch.set_num_threads(before)
    assert all(map(torch.equal, *results))


def test_memory_that_no_float_is_aligned_to() -> None:
    """Channels side by side are pairs as they are, but not at an odd address."""
    x, w, _ = (t.bfloat16() for t in DENSE.tensors(torch.float32))
    moved = torch.empty(x.numel() + 1, dtype=x.dtype)[1:].as_strided(
        x.shape, x.to(memory_format=torch.channels_last).stride()
    )
    moved.copy_(x)
    assert torch.equal(
        convgrad_ext.conv2d(moved, w, padding=1),
        convgrad_ext.conv2d(x.to(memory_format=torch.channels_last), w, padding=1),
    )
