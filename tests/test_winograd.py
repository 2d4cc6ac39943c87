"""Winograd's form of the passes under 3x3 kernels of stride 1, which docs/winograd.md derives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from expected import output_like, torch_gradients
from forced_winograd import forced_winograd
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_names import FAST as FAST_KERNELS
from tolerance import assert_sums_equal
from torch import Tensor

import convgrad_ext
from convgrad_ext._C import Axis
from convgrad_ext.cases import Case
from convgrad_ext.plans import PASSES


@pytest.fixture(autouse=True)
def _winograd() -> Iterator[None]:
    with forced_winograd():
        yield


# The output tiles


@st.composite
def axes_of_three_taps(draw: st.DrawFn) -> tuple[int, int, tuple[int, int], int]:
    """(input_extent, stride, padding, dilation) of an axis under three taps."""
    dilation, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    span = 2 * dilation + 1
    lo, hi = draw(st.integers(0, span + 2)), draw(st.integers(0, span + 2))
    extent = draw(st.integers(max(1, span - lo - hi), 20))
    return extent, stride, (lo, hi), dilation


def check_output_tiles(tiles, expected: dict[int, list[tuple[int, int]]], extent: int) -> None:
    """`expected` has the meetings (tap, source) of each destination pixel, by definition."""
    pixels = [tiles.pixel(p, i) for p in range(len(tiles)) for i in (0, 1)]
    last = max(expected)
    assert sorted(pixel for pixel in pixels if pixel <= last) == sorted(expected)
    for p in range(len(tiles)):
        for i in (0, 1):
            met = {
                (2 - k if tiles.taps_are_reversed else k, tiles.source(p, i + k)) for k in range(3)
            }
            inside = {(k, s) for k, s in met if 0 <= s < extent}
            assert inside == set(expected.get(tiles.pixel(p, i), inside))
        for count in range(1, tiles.left_in_phase(p) + 1):
            sources = [tiles.source(p + j // 2, j % 2) for j in range(2 * count)]
            sources += [tiles.source(p + count - 1, j) for j in (2, 3)]
            lo, hi = tiles.sources_inside(p, count)
            assert [0 <= s < extent for s in sources] == [lo <= j < hi for j in range(len(sources))]
            run = [tiles.pixel(p + j // 2, j % 2) for j in range(2 * count)]
            assert tiles.pixels_inside(p, count) == sum(pixel <= last for pixel in run)
            assert {b - a for a, b in pairwise(run)} == {tiles.pixel_step}


@given(axes_of_three_taps())
@settings(max_examples=500)
def test_output_tiles_of_outputs_meet_by_the_relation(drawn: tuple) -> None:
    extent, stride, (lo, hi), dilation = drawn
    axis = Axis(extent, 3, stride, (lo, hi), dilation)
    tiles = axis.output_tiles_of_outputs()
    if stride > 1 and axis.output_extent > 1:
        assert tiles is None
        return
    meetings = {
        o: [(k, i) for k in range(3) if 0 <= (i := o - lo + k * dilation) < extent]
        for o in range(axis.output_extent)
    }
    check_output_tiles(tiles, meetings, extent)


@given(axes_of_three_taps(), st.integers(0, 2))
@settings(max_examples=500)
def test_tiles_of_a_phase_of_inputs_meet_by_the_relation(drawn: tuple, first: int) -> None:
    """Three taps in a phase: the kernel has three for each residue of the stride."""
    extent, stride, (lo, hi), _ = drawn
    extent, first = extent + 3 * stride, first % stride
    axis = Axis(extent, 3 * stride, stride, (lo, hi))
    tiles = axis.output_tiles_of_phase(first)
    outputs = range(axis.output_extent)
    meetings = {
        i: [
            ((i + lo - o * stride) // stride, o)
            for o in outputs
            if 0 <= i + lo - o * stride < 3 * stride
        ]
        for i in range(first, extent, stride)
    }
    check_output_tiles(tiles, meetings, axis.output_extent)


@pytest.mark.parametrize(
    "axis",
    [
        pytest.param(Axis(9, 3, 2), id="stride 2: neighbours share one source, not two"),
        pytest.param(Axis(9, 2), id="two taps"),
        pytest.param(Axis(9, 5), id="five taps"),
    ],
)
def test_other_axes_have_no_tiles(axis: Axis) -> None:
    assert axis.output_tiles_of_outputs() is None


# The passes


def case(name: str, reason: str, channels: tuple[int, int], image: tuple[int, int], **more) -> Case:
    return Case(name, reason, channels=channels, image=image, **{"kernel": (3, 3), **more})


# A test below makes sure that they take this path.
CASES = [
    case("plain", "whole tiles, no padding", (64, 64), (26, 26)),
    case("odd", "the last patch of a row and of a column is half", (37, 35), (27, 31), padding=1),
    case("narrow", "many rows share a vector", (64, 64), (64, 11), padding=1),
    case("wide", "several panels a row", (24, 32), (10, 150), N=1, padding=1),
    case("images", "a panel spans several images", (96, 96), (16, 16), N=5, padding=1),
    case("much_padding", "tiles that see padding alone", (64, 64), (44, 43), padding=4),
    case("asymmetric", "each side its own", (64, 64), (24, 25), padding=((2, 0), (0, 1))),
    case("dilated", "pixels of a patch lie apart", (64, 64), (48, 46), dilation=2, padding=2),
    case("dilation_by_axis", "phases", (64, 64), (68, 66), dilation=(3, 2), padding=(3, 2)),
    case("grouped", "a group at a time", (128, 128), (25, 24), groups=2, padding=1),
    case("sums_wait", "channels come in blocks", (300, 60), (18, 17), padding=1),
    case("large_weight", "one item has all tiles", (300, 460), (14, 15), N=1, padding=1),
]
PHASES = case(
    "six_taps", "three in each phase of grad_input", (64, 64), (64, 64), kernel=(6, 6), stride=2
)

FAST = pytest.mark.parametrize("name", FAST_KERNELS)


def passes(
    case: Case, input: Tensor, weight: Tensor, bias: Tensor, grad_output: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        convgrad_ext.conv2d(input, weight, bias, **case.params),
        convgrad_ext.conv2d_input(case.input_size, weight, grad_output, **case.params),
        convgrad_ext.conv2d_weight(input, case.weight_size, grad_output, **case.params),
    )


def whole_numbers(case: Case) -> tuple[Tensor, ...]:
    """Input, weight, bias and grad_output in -2..2, as float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randint(-2, 3, size, generator=generator).double()

    input, weight, bias = (t.shape for t in case.tensors(torch.float64))
    output = case.torch_conv2d(*case.tensors(torch.float64))
    return draw(*input), draw(*weight), draw(*bias), draw(*output.shape)


@FAST
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"]
)
@pytest.mark.parametrize("case", [*CASES, PHASES], ids=str)
def test_whole_numbers_are_exact(
    case: Case, memory_format: torch.memory_format, dtype: torch.dtype, name: str
) -> None:
    """The transforms only add, and halve twice: small whole numbers lose nothing on the way."""
    input, weight, bias, grad_output = whole_numbers(case)
    expected = (
        case.torch_conv2d(input, weight, bias),
        *torch_gradients(case, input, weight, bias, grad_output=grad_output)[:2],
    )
    operands = (
        t.to(dtype).contiguous(memory_format=memory_format) if t.dim() == 4 else t.to(dtype)
        for t in (input, weight, bias, grad_output)
    )
    with convgrad_ext.use_kernel(name):
        results = passes(case, *operands)
    for result, exact in zip(results, expected, strict=True):
        assert torch.equal(result, exact.to(dtype))


@FAST
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_random_numbers_agree_with_torch(case: Case, dtype: torch.dtype, name: str) -> None:
    operands = case.tensors(dtype)
    operands = (*operands, output_like(case, *operands))
    exact = [t.double() for t in operands]
    C_in, C_out = (channels // case.groups for channels in case.channels)
    taps, outputs = case.kernel[0] * case.kernel[1], operands[3][:, 0].numel()
    with convgrad_ext.use_kernel(name):
        results = passes(case, *operands)

    def torchs(*tensors: Tensor) -> tuple[Tensor, ...]:
        gradients = torch_gradients(case, *tensors[:3], grad_output=tensors[3])
        return case.torch_conv2d(*tensors[:3]), *gradients[:2]

    for result, expected, magnitude, reduction in zip(
        results,
        torchs(*exact),
        torchs(*(t.abs() for t in exact)),
        (C_in * taps + 1, C_out * taps, outputs),
        strict=True,
    ):
        assert_sums_equal(result, expected.to(dtype), magnitude, reduction)


@FAST
def test_operands_are_read_where_they_lie(name: str) -> None:
    """Slices, an odd offset, reversed axes: bit for bit what a contiguous copy gives."""
    strided = case("strided", "none is contiguous", (32, 32), (15, 14), padding=1)
    input, weight, bias = strided.tensors(torch.float32)
    grad_output = output_like(strided, input, weight, bias)

    def scattered(t: Tensor) -> Tensor:
        """The same numbers, with gaps between pixels, rows and channels, from an odd place on."""
        room = torch.zeros([2 * extent + 1 for extent in t.shape])
        room = room.transpose(0, 1).contiguous().transpose(0, 1)
        room[tuple(slice(1, None, 2) for _ in t.shape)] = t
        return room[tuple(slice(1, None, 2) for _ in t.shape)]

    with convgrad_ext.use_kernel(name):
        expected = passes(strided, input, weight, bias, grad_output)
        results = passes(strided, *map(scattered, (input, weight)), bias, scattered(grad_output))
    assert all(map(torch.equal, results, expected))


# Where it runs


def paths(case: Case, dtype: torch.dtype) -> dict[str, set[str]]:
    input, weight, bias = case.tensors(dtype)
    found = convgrad_ext.plans(input, weight, bias, **case.params)
    return {name: {plan.path for plan in found if plan.pass_name == name} for name in PASSES}


@FAST
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", [*CASES, PHASES], ids=str)
def test_these_layers_take_this_path(case: Case, dtype: torch.dtype, name: str) -> None:
    """Without it the tests above would be of other loops."""
    with convgrad_ext.use_kernel(name):
        found = paths(case, dtype)
    assert found["grad_input"] == {"winograd"}
    others = {"direct"} if case is PHASES else {"winograd"}
    assert found["forward"] == found["grad_weight"] == others


# What it does to an infinity


def one_infinite_pixel(*size: int) -> Tensor:
    t = torch.ones(size)
    t[0, 0, 1, 1] = torch.inf
    return t


@FAST
def test_an_infinity_stays_with_the_results_that_meet_it(name: str) -> None:
    """They may become NaN; the others are what they were."""
    with convgrad_ext.use_kernel(name):
        output = convgrad_ext.conv2d(one_infinite_pixel(1, 64, 26, 26), torch.ones(64, 64, 3, 3))
    assert output[..., :2, :2].isnan().all()
    assert (output[..., 2:, :] == 9 * 64).all()
    assert (output[..., :2, 2:] == 9 * 64).all()


@FAST
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [
        pytest.param((3, 2), 1, id="two taps"),
        pytest.param((3, 3), 2, id="a stride"),
        pytest.param((5, 5), 1, id="five taps"),
        pytest.param((1, 1), 1, id="one tap"),
    ],
)
def test_other_kernels_take_other_paths(kernel: tuple[int, int], stride: int, name: str) -> None:
    """And so keep an infinity to the results that meet it."""
    image, weight = one_infinite_pixel(1, 32, 18, 18), torch.ones(32, 32, *kernel)
    with convgrad_ext.use_kernel(name):
        assert convgrad_ext.plans(image, weight, stride=stride)[0].path != "winograd"
        output = convgrad_ext.conv2d(image, weight, stride=stride)
    assert not output.isnan().any()
    assert output.isinf().any()
