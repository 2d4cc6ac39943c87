"""convgrad_ext.plans and explain_plan: what a plan says of a convolution, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bad_calls import BAD_CALLS, BadCall
from kernel_names import FAST
from refusals import error_of

import convgrad_ext
from convgrad_ext import allow_winograd, explain_plan, plans, use_kernel
from convgrad_ext.plans import PASSES, Plan

# Parts of the blocking

GATHER = {"tile, rows x vectors", "channels of an item"}
SUMS = {"tile, rows x vectors", "channels of an item, in x out"}
PARTS = {
    ("forward", "direct"): GATHER
    | {"band, rows x columns", "images of an item", "chain, channels x taps", "source"},
    ("forward", "pixelwise"): GATHER | {"pixels of an item", "chain, channels", "source"},
    ("forward", "rowwise"): {
        "lanes",
        "tile, rows x vectors",
        "band, rows",
        "images of an item",
        "chain, channels x taps",
    },
    ("forward", "winograd"): GATHER
    | {"output tiles of an item", "channels of the source at a time", "weight"},
    ("grad_weight", "direct"): SUMS
    | {
        "rows of a tile",
        "stretch, images x rows x columns",
        "chunks of stretches",
        "source",
        "grad_output",
    },
    ("grad_weight", "winograd"): SUMS | {"output tiles at a time", "chunks of output tiles"},
}


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("winograd", [False, True])
@pytest.mark.parametrize(("channels", "K"), [(64, 1), (64, 3), (3, 7)])
def test_the_blocking_has_its_parts(channels: int, K: int, winograd: bool, name: str) -> None:
    image, weight = torch.empty(1, channels, 56, 56), torch.empty(64, channels, K, K)
    with use_kernel(name), allow_winograd(winograd):
        found = plans(image, weight, padding=K // 2)
    for plan in found:
        pass_name = "grad_weight" if plan.pass_name == "grad_weight" else "forward"
        assert set(plan.blocking) == PARTS[pass_name, plan.path]
        assert all(plan.blocking.values())


# The vectors of a tile (csrc/cpu/target.h)

# A step of a tile reads its vectors of B and the cache lines of a column of A, and does rows x
# vectors multiply-adds. Below: bytes a multiply-add, for 2, 3 and 4 vectors of float32. A tile of
# AVX-512 has 28 sums, of the others 12; a vector has 64, 32 or 16 bytes.
# Tiles cover the pixels of a row that meet all taps: under 3x3 taps with a padding of 1, two fewer
# than the row has.
TILE_VECS = {
    ("avx512", 56): 2,  # 54 pixels: 192/28, 256/27, 320/28: 14, 9 or 7 rows
    ("avx512", 14): 2,  # 12 pixels: 192/24, 256/18 (two tiles of 6), 320/24
    ("avx512", 7): 4,  # 5 pixels: 192/10, 256/15, 320/20: all have 5 rows
    ("avx512", 9): 4,  # 7 pixels: 192/14, 256/21, 320/28: all have 7 rows
    ("avx2", 56): 2,  # 54 pixels: 128/12, 160/12, 192/12: 6, 4 or 3 rows
    ("avx2", 9): 3,  # 7 pixels: 128/8 (tiles of 4 and 3), 160/12 (of 4 and 3), 192/12
    ("avx2", 7): 2,  # 5 pixels: 128/10, 160/9 (of 3 and 2), 192/12 (of 3 and 2)
    ("baseline", 56): 2,  # 54 pixels: 96/12, 112/12, 128/12
    ("baseline", 7): 2,  # 5 pixels: 96/10, 112/9, 128/12
}


@pytest.mark.parametrize(
    ("name", "extent"), [key for key in TILE_VECS if key[0] in FAST], ids=lambda value: str(value)
)
def test_the_vectors_of_a_tile_bring_the_fewest_bytes(name: str, extent: int) -> None:
    image, weight = torch.empty(1, 64, extent, extent), torch.empty(128, 64, 3, 3)
    with use_kernel(name):
        forward = plans(image, weight, padding=1)[0]
    rows, vecs = map(int, forward.blocking["tile, rows x vectors"].split(" x "))
    assert vecs == TILE_VECS[name, extent]
    assert rows == {"avx512": 28, "avx2": 12, "baseline": 12}[name] // vecs


# Other kernels, dtypes and memory formats


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64], ids=str)
def test_wide_integers_take_the_reference(dtype: torch.dtype) -> None:
    found = plans(torch.empty(1, 4, 6, 6, dtype=dtype), torch.empty(4, 4, 3, 3, dtype=dtype))
    assert [plan.pass_name for plan in found] == list(PASSES)
    assert {plan.path for plan in found} == {"reference"}
    assert {plan.reason for plan in found} == {"no other kernel takes this dtype"}


def test_half_precision_has_the_plans_of_float32() -> None:
    """Of the images that are converted at a time."""
    float32 = plans(torch.empty(3, 64, 26, 26), torch.empty(64, 64, 3, 3))
    for dtype in (torch.float16, torch.bfloat16):
        half = plans(
            torch.empty(3, 64, 26, 26, dtype=dtype), torch.empty(64, 64, 3, 3, dtype=dtype)
        )
        assert [plan.path for plan in half] == [plan.path for plan in float32]
        assert {plan.blocking["images converted at a time"] for plan in half} == {"3"}


def test_integers_of_eight_bits_have_the_plans_of_float64() -> None:
    float64 = plans(torch.empty(2, 8, 9, 9).double(), torch.empty(8, 8, 3, 3).double())
    for dtype in (torch.int8, torch.uint8):
        found = plans(torch.empty(2, 8, 9, 9).to(dtype), torch.empty(8, 8, 3, 3).to(dtype))
        assert [plan.path for plan in found] == [plan.path for plan in float64]


def test_complex_numbers_have_the_plans_of_twice_the_channels() -> None:
    real = plans(torch.empty(1, 128, 26, 26), torch.empty(128, 128, 3, 3))
    image, weight = (torch.empty(1, 64, 26, 26), torch.empty(64, 64, 3, 3))
    found = plans(image.to(torch.complex64), weight.to(torch.complex64))
    assert [plan.path for plan in found] == [plan.path for plan in real]
    assert [plan.packed_bytes for plan in found] == [plan.packed_bytes for plan in real]


def test_the_reference_can_be_asked_for() -> None:
    with use_kernel("reference"):
        found = plans(torch.empty(1, 64, 26, 26), torch.empty(64, 64, 3, 3))
    assert {plan.path for plan in found} == {"reference"}
    assert {plan.reason for plan in found} == {"the kernel 'reference' was asked for"}
    assert {(plan.packed_bytes, plan.scratch_bytes) for plan in found} == {(0, 0)}


@pytest.mark.parametrize("name", FAST)
def test_channels_last_has_its_own_plan(name: str) -> None:
    """Adjacent channels are the lanes of a 1x1 without a transposition."""
    image, weight = torch.empty(1, 64, 14, 14), torch.empty(64, 64, 1, 1)
    with use_kernel(name):
        nchw = plans(image, weight)
        last = plans(image.contiguous(memory_format=torch.channels_last), weight)
    assert [plan.path for plan in nchw] == ["pixelwise", "pixelwise", "direct"]
    assert [plan.path for plan in last] == ["direct", "direct", "direct"]
    assert last[0].blocking["source"] == "the tensor"


def test_one_image_without_a_batch() -> None:
    weight = torch.empty(8, 4, 3, 3)
    assert plans(torch.empty(4, 9, 8), weight) == plans(torch.empty(1, 4, 9, 8), weight)


def test_bias_changes_no_plan() -> None:
    image, weight = torch.empty(1, 4, 9, 8), torch.empty(8, 4, 3, 3)
    assert plans(image, weight, torch.empty(8)) == plans(image, weight)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("input", "weight"),
    [
        pytest.param((0, 4, 6, 6), (8, 4, 3, 3), id="no images"),
        pytest.param((2, 0, 6, 6), (8, 0, 3, 3), id="no channels"),
    ],
)
def test_tensors_without_elements_have_no_plan(
    input: tuple[int, ...], weight: tuple[int, ...]
) -> None:
    assert plans(torch.empty(input), torch.empty(weight)) == ()


# Errors


@pytest.mark.parametrize("function", [plans, explain_plan], ids=lambda f: f.__name__)
@pytest.mark.parametrize("call", [c for c in BAD_CALLS if c.bias is None], ids=str)
def test_what_conv2d_refuses_is_refused_alike(call: BadCall, function: Callable[..., Any]) -> None:
    tensors = call.tensors()
    assert error_of(function, *tensors, **call.params) == error_of(
        F.conv2d, *tensors, **call.params
    )


@pytest.mark.parametrize(
    "operands",
    [
        pytest.param((None, torch.ones(6, 4, 3, 3)), id="no input"),
        pytest.param((torch.ones(1, 4, 5, 5), [1.0]), id="a list for the weight"),
        pytest.param((torch.ones(1, 4, 5, 5), torch.ones(6, 4, 3, 3).double()), id="mixed dtypes"),
        pytest.param((torch.ones(1, 4, 5, 5).bool(), torch.ones(6, 4, 3, 3).bool()), id="bool"),
    ],
)
def test_operands_are_refused_as_by_conv2d(operands: tuple[Any, Any]) -> None:
    assert error_of(plans, *operands) == error_of(convgrad_ext.conv2d, *operands)


# In words


def test_explain_plan_prints_every_pass(capsys: pytest.CaptureFixture[str]) -> None:
    image, weight = torch.empty(1, 64, 56, 56), torch.empty(64, 64, 3, 3)
    explain_plan(image, weight, stride=2, padding=1)
    told = capsys.readouterr().out
    assert told == "\n".join(map(str, plans(image, weight, stride=2, padding=1))) + "\n"


def test_a_plan_in_words() -> None:
    plan = Plan("grad_input", "direct", "many taps", 3, {"tile": "14 x 2"}, 2048, 1025, 0.125)
    assert str(plan) == (
        "grad_input, 3 phases: direct\n"
        "  reason: many taps\n"
        "  tile: 14 x 2\n"
        "  packed: 2 KiB\n"
        "  scratch of a thread: 2 KiB\n"
        "  taps that meet padding: 12.5%"
    )


@pytest.mark.parametrize(
    ("filters", "side", "source"),
    [
        pytest.param(128, 28, "the tensor", id="few blocks of rows read a slice"),
        pytest.param(512, 28, "strips", id="many blocks would bring it from L2 each time"),
        pytest.param(128, 27, "strips", id="slices start within cache lines"),
        pytest.param(128, 64, "strips", id="channels push each other out of L1d"),
        pytest.param(24, 64, "the tensor", id="they do, but very few blocks read a slice"),
    ],
)
@pytest.mark.parametrize("name", FAST)
def test_pixels_are_copied_where_it_pays(name: str, filters: int, side: int, source: str) -> None:
    image, weight = torch.empty(2, 512, side, side), torch.empty(filters, 512, 1, 1)
    with use_kernel(name):
        forward, _, _ = plans(image, weight)
    assert (forward.path, forward.blocking["source"]) == ("pixelwise", source)


@pytest.mark.parametrize(
    ("filters", "memory_format", "grad_output"),
    [
        pytest.param(128, torch.channels_last, "the tensor", id="whole vectors"),
        pytest.param(100, torch.channels_last, "packed", id="a part of a vector is left"),
        pytest.param(1024, torch.channels_last, "packed", id="pixels push each other out of L1d"),
        pytest.param(128, torch.contiguous_format, "packed", id="channels are apart"),
    ],
)
@pytest.mark.parametrize("name", [n for n in FAST if n != "baseline"])
def test_grad_output_is_packed_where_tiles_cannot_read_it(
    name: str, filters: int, memory_format: torch.memory_format, grad_output: str
) -> None:
    """100 channels are whole vectors of four."""
    image = torch.empty(2, 64, 14, 14).to(memory_format=memory_format)
    weight = torch.empty(filters, 64, 1, 1).to(memory_format=memory_format)
    with use_kernel(name):
        grad_weight = plans(image, weight)[-1]
    assert grad_weight.blocking["grad_output"] == grad_output


def test_a_row_of_results_that_are_rounded_has_scratch() -> None:
    """Tiles write float32 of adjacent groups in place; bfloat16 is rounded from a row of sums."""
    images, weight = torch.empty(2, 32, 9, 10), torch.empty(32, 4, 3, 3)
    scratch = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = images.to(dtype, memory_format=torch.channels_last)
        plan = convgrad_ext.plans(x, weight.to(dtype), None, padding=1, groups=8)[0]
        assert plan.path == "depthwise"
        scratch[dtype] = plan.scratch_bytes
    assert scratch[torch.float32] == 0
    assert scratch[torch.bfloat16] >= 10 * 4 * 4  # ten pixels of the narrowest vectors
