"""The kernels that read boxes of pixels through descriptors, executed by Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_interpreted_passes import check
from test_passes import Formats, check_against_torch, check_rounding

import convgrad_ext
from convgrad_ext.cases import Case
from convgrad_ext.triton import boxes, tiles, tuning
from convgrad_ext.triton.boxes import Operand
from convgrad_ext.triton.launches import Launch

NHWC = Formats(torch.channels_last, torch.channels_last)


def box_case(name: str, reason: str, **fields: Any) -> Case:
    return Case(name, reason, **{"channels": (32, 48), "image": (6, 8), **fields})


CASES = (
    box_case("one_pixel", "every extent of the image is 1", image=(1, 1), kernel=(1, 1)),
    box_case("pointwise", "one tap", kernel=(1, 1)),
    box_case("padded", "taps out of the view read zeros", padding=1),
    box_case("asymmetric", "four paddings", padding=((0, 2), (1, 0))),
    box_case("padding_exceeds_kernel", "boxes in the padding alone", kernel=(2, 1), padding=(4, 3)),
    box_case("strided", "two phases an axis", stride=2, padding=1),
    box_case("strided_by_axis", "rows and columns", image=(6, 9), stride=(2, 3), padding=1),
    box_case("stride_exceeds_kernel", "phases without a tap", kernel=(2, 1), stride=(3, 4)),
    box_case("dilated", "boxes apart from each other", image=(8, 9), dilation=(2, 3), padding=2),
    box_case("dilated_strided", "phases of some taps", stride=2, dilation=2, padding=(2, 1)),
    box_case("dilation_3", "all phases share taps", stride=2, dilation=3, padding=(3, 2)),
    box_case("blocks", "several of channels", channels=(160, 144), N=1, image=(3, 2), padding=1),
    box_case("tails", "the last block passes the end of the channels", channels=(40, 72)),
    box_case("groups", "a block ends where the group does", channels=(64, 96), groups=2),
    box_case("strided_groups", "and where the phase does", channels=(64, 64), groups=2, stride=2),
    box_case("images", "a box has several images, and the last one less", N=19, image=(3, 4)),
    box_case("rows", "several boxes of an image", N=1, image=(20, 24), channels=(32, 32)),
)
LAYER = box_case("layer", "", stride=2, padding=1)


@pytest.fixture
def reasons(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of the kernels that ran; adding the splits needs none."""
    found: list[str] = []
    run = Launch.__call__

    def seen(launch: Launch, **tensors: Any) -> None:
        found.append(launch.reason)
        run(launch, **tensors)

    monkeypatch.setattr(Launch, "__call__", seen)
    return found


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_named_cases_agree_with_torch(case: Case, reasons: list[str]) -> None:
    check_against_torch(case, torch.float64, NHWC)
    assert {*reasons} == {tiles.IN_BOXES, ""}


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_halves_round_the_exact_result(case: Case, dtype: torch.dtype, reasons: list[str]) -> None:
    check_rounding(case, dtype, NHWC)
    assert {*reasons} == {tiles.IN_BOXES, ""}


@pytest.fixture(params=["tf32", "ieee"])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """PyTorch's own setting."""
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = request.param
    yield request.param
    torch.backends.cudnn.conv.fp32_precision = before


@pytest.mark.usefixtures("poisoned")
def test_tf32_as_pytorch_has_it_set(precision: str, reasons: list[str]) -> None:
    """The interpreter multiplies TF32 as float32."""
    check_against_torch(LAYER, torch.float32, NHWC)
    assert {*reasons} == {tiles.IN_BOXES if precision == "tf32" else tiles.BY_TAPS, ""}


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("of_split", [1, 3, 40])
def test_splits_of_boxes_are_added(of_split: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last split has fewer boxes, or none."""
    monkeypatch.setattr(tiles, "PIXELS_OF_SPLIT", of_split)
    tuning.use({})
    check_against_torch(box_case("splits", "", N=5, image=(7, 9), padding=1), torch.float64, NHWC)
    tuning.use({})


@st.composite
def box_cases(draw: st.DrawFn) -> Case:
    """The extents of the image are multiples of the stride, and the kernel fits into it."""
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    image = [
        s * draw(st.integers(-(-max(1, (k - 1) * d + 1 - 2 * p) // s), 9))
        for s, d, k, p in zip(stride, dilation, kernel, padding, strict=True)
    ]
    groups = draw(st.sampled_from([1, 2]))
    channels = (groups * draw(st.sampled_from([32, 48])), groups * draw(st.sampled_from([32, 64])))
    return Case(
        "drawn", "", draw(st.integers(1, 3)), channels, (image[0], image[1]), kernel,
        stride, padding, dilation, groups,
    )  # fmt: skip


@pytest.mark.usefixtures("poisoned")
@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=box_cases(), dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float64]))
def test_drawn_cases_agree_with_torch(case: Case, dtype: torch.dtype) -> None:
    check(case, dtype, NHWC)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(
    ("case", "formats"),
    [
        (box_case("nchw", "channels are no neighbours"), Formats()),
        (box_case("weight", "filters as NCHW has them", padding=1), Formats(torch.channels_last)),
        (box_case("odd_rows", "no stride divides them", image=(7, 8), stride=2, padding=1), NHWC),
        (box_case("odd_columns", "nor these", image=(6, 9), stride=2, padding=1), NHWC),
        (box_case("uneven", "13 channels are no step of a descriptor", channels=(26, 39)), NHWC),
        (box_case("narrow", "blocks of 8", channels=(48, 48), groups=2, stride=2), NHWC),
    ],
    ids=str,
)
def test_other_layers_are_gathered(case: Case, formats: Formats, reasons: list[str]) -> None:
    check_against_torch(case, torch.float64, formats)
    assert tiles.BY_TAPS in reasons


def test_older_architectures_gather(reasons: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "architecture_of", lambda device: 89)
    tuning.use({})
    check_against_torch(LAYER, torch.float64, NHWC)
    tuning.use({})
    assert {*reasons} == {tiles.BY_TAPS, ""}


def test_a_view_that_is_not_aligned_is_gathered(reasons: list[str]) -> None:
    """A descriptor begins at a multiple of 16 bytes."""
    image = torch.randn(1, 33, 6, 8).half().contiguous(memory_format=torch.channels_last)
    shifted = torch.empty(image.numel() + 1).half()[1:].as_strided(image.shape, image.stride())
    shifted.copy_(image)
    weight = torch.randn(32, 33, 3, 3).half().contiguous(memory_format=torch.channels_last)
    expected = torch.nn.functional.conv2d(image, weight)
    torch.testing.assert_close(convgrad_ext.conv2d(shifted, weight), expected)
    assert reasons == [tiles.BY_TAPS]


def test_a_cropped_image_is_read_in_boxes(reasons: list[str]) -> None:
    """Rows and columns may be those of a larger image."""
    image = torch.randn(1, 32, 8, 9, dtype=torch.float64).to(memory_format=torch.channels_last)
    weight = torch.randn(32, 32, 3, 3, dtype=torch.float64).to(memory_format=torch.channels_last)
    cropped = image[:, :, 1:7, 2:8]
    expected = torch.nn.functional.conv2d(cropped, weight, padding=1)
    torch.testing.assert_close(convgrad_ext.conv2d(cropped, weight, padding=1), expected)
    assert reasons == [tiles.IN_BOXES]


@pytest.mark.parametrize(("stride", "reason"), [(1, tiles.IN_BOXES), (2, tiles.BY_TAPS)])
def test_channels_may_be_some_of_a_pixel(stride: int, reason: str, reasons: list[str]) -> None:
    """Under a stride, pixels are neighbours in a view only if nothing is between them."""
    image = torch.randn(1, 48, 6, 8, dtype=torch.float64).to(memory_format=torch.channels_last)
    weight = torch.randn(32, 32, 3, 3, dtype=torch.float64).to(memory_format=torch.channels_last)
    some = image[:, :32]
    expected = torch.nn.functional.conv2d(some, weight, stride=stride, padding=1)
    output = convgrad_ext.conv2d(some, weight, stride=stride, padding=1)
    torch.testing.assert_close(output, expected)
    assert reasons == [reason]


@pytest.mark.parametrize(
    ("pixels", "extents", "box"),
    [
        (64, (16, 28, 28), (4, 4, 4)),
        (64, (16, 56, 56), (1, 8, 8)),
        (128, (16, 14, 14), (4, 2, 16)),  # 28 boxes, as in any other form, and the longest rows
        (16, (1, 1, 100), (1, 1, 16)),
        (32, (5, 1, 1), (8, 1, 4)),
    ],
)
def test_a_box_covers_the_pixels_with_few_others(
    pixels: int, extents: tuple[int, int, int], box: tuple[int, int, int]
) -> None:
    assert boxes.box_of(pixels, extents) == box


def test_an_operand_knows_where_its_memory_begins() -> None:
    assert Operand.of(torch.empty(9)).is_aligned
    assert not Operand.of(torch.empty(9)[1:]).is_aligned
    assert Operand.of(torch.empty(9)[4:]).is_aligned


def test_external_memory_may_begin_anywhere() -> None:
    """Its tensor has the offset 0."""
    memory = np.arange(9, dtype=np.float16)[1:]
    assert torch.from_numpy(memory).storage_offset() == 0
    assert not Operand.of(torch.from_numpy(memory)).is_aligned


@pytest.mark.usefixtures("poisoned")
def test_an_empty_batch_has_a_gradient_of_zero() -> None:
    none = torch.empty(0, 32, 8, 8).half().contiguous(memory_format=torch.channels_last)
    gradient = convgrad_ext.conv2d_weight(none, (32, 32, 3, 3), none, padding=1)
    assert not gradient.any()


def test_walks_of_64_bits_are_gathered(reasons: list[str]) -> None:
    """Taps and padding of a row so far apart that its middle tap alone meets the image."""
    image = torch.randn(1, 32, 6, 8).half().contiguous(memory_format=torch.channels_last)
    weight = torch.randn(32, 32, 3, 3).half().contiguous(memory_format=torch.channels_last)
    far = 2**32
    output = convgrad_ext.conv2d(image, weight, padding=(far, 1), dilation=(far, 1))
    expected = torch.nn.functional.conv2d(image, weight[:, :, 1:2], padding=(0, 1))
    torch.testing.assert_close(output, expected)
    assert reasons == [tiles.BY_TAPS]


def test_an_expanded_batch_is_gathered(reasons: list[str]) -> None:
    """Its images are one image: a descriptor has no steps of zero."""
    image = torch.randn(1, 32, 6, 8).half().contiguous(memory_format=torch.channels_last)
    weight = torch.randn(32, 32, 3, 3).half().contiguous(memory_format=torch.channels_last)
    output = convgrad_ext.conv2d(image.expand(3, -1, -1, -1), weight)
    torch.testing.assert_close(output[2:], convgrad_ext.conv2d(image, weight))
    assert reasons[0] == tiles.BY_TAPS
