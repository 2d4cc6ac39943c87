"""The depthwise path: its geometry, its blocks and its rare loops, beside what all paths have.

Tests of all kernels and layouts run through it as well, where groups have few channels:
test_passes, test_infinities, test_independence and others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from exact import PASSES, Pass, output_size
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_names import FAST
from layer_cases import LAYOUTS, case
from torch import Tensor

import convgrad_ext
from convgrad_ext import _C, plans
from convgrad_ext.cases import Case

EVERY_FAST = pytest.mark.parametrize("kernel", FAST, indirect=True)
SMALL_CACHES = (1 << 10, 128 << 10)  # bands of few rows, and two parts of the channels


@contextmanager
def caches(sizes: tuple[int, int] | None) -> Iterator[None]:
    before = _C.set_cache_sizes(sizes)
    try:
        yield
    finally:
        _C.set_cache_sizes(before)


# Whole numbers: every order of the additions gives the same sum.


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int, tuple[int, int], int]:
    """(extent, kernel_size, stride, padding, dilation): taps of one tile, of two and of phases."""
    kernel_size, stride = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    dilation = draw(st.integers(1, 4))
    span = dilation * (kernel_size - 1) + 1
    lo, hi = draw(st.integers(0, span + 1)), draw(st.integers(0, span + 1))
    least = max(1, span - lo - hi)
    return draw(st.integers(least, least + 40)), kernel_size, stride, (lo, hi), dilation


@st.composite
def thin_layers(draw: st.DrawFn) -> Case:
    """Groups of one to four channels on a side; as many groups as make a vector, or fewer.

    A single group of them, or one that sums over more, takes the rowwise path.
    """
    H_in, K_h, stride_h, padding_h, dilation_h = draw(axes())
    W_in, K_w, stride_w, padding_w, dilation_w = draw(axes())
    groups = draw(st.sampled_from([1, 2, 5, 8, 16, 19, 40]))
    per_group = draw(
        st.sampled_from([(1, 1), (1, 1), (1, 2), (2, 1), (1, 5), (3, 2), (4, 4), (12, 2)])
    )
    return case(
        "drawn",
        "drawn by hypothesis",
        (groups * per_group[0], groups * per_group[1]),
        (H_in, W_in),
        N=draw(st.integers(1, 3)),
        kernel=(K_h, K_w),
        stride=(stride_h, stride_w),
        padding=(padding_h, padding_w),
        dilation=(dilation_h, dilation_w),
        groups=groups,
    )


def whole(size: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, size, generator=generator).double()


def in_double(case: Case, input: Tensor, weight: Tensor, grad_output: Tensor) -> list[Tensor]:
    """PyTorch's output, grad_input and grad_weight, exact for small whole numbers."""
    input, weight = input.clone().requires_grad_(), weight.clone().requires_grad_()
    output = case.torch_conv2d(input, weight)
    return [output.detach(), *torch.autograd.grad(output, (input, weight), grad_output)]


def ours(case: Case, input: Tensor, weight: Tensor, grad_output: Tensor) -> list[Tensor]:
    return [
        convgrad_ext.conv2d(input, weight, **case.params),
        convgrad_ext.conv2d_input(input.shape, weight, grad_output, **case.params),
        convgrad_ext.conv2d_weight(input, weight.shape, grad_output, **case.params),
    ]


def check_exact(case: Case, dtype: torch.dtype) -> None:
    sizes = (case.input_size, case.weight_size, output_size(case))
    tensors = [whole(tuple(size), seed) for seed, size in enumerate(sizes)]
    expected = in_double(case, *tensors)
    for layout in LAYOUTS:
        cast = (t.to(dtype).contiguous(memory_format=layout) for t in tensors)
        for result, exact in zip(ours(case, *cast), expected, strict=True):
            assert torch.equal(result.double(), exact)


@EVERY_FAST
@pytest.mark.usefixtures("kernel", "poisoned")
@pytest.mark.parametrize("sizes", [None, SMALL_CACHES], ids=["usual_caches", "small_caches"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=thin_layers())
def test_exact_on_whole_numbers(
    case: Case, dtype: torch.dtype, sizes: tuple[int, int] | None
) -> None:
    with caches(sizes):
        check_exact(case, dtype)


NAMED = [
    case("31x31", "five blocks of tap rows", (20, 20), (33, 35), kernel=(31, 31), padding=15),
    case("taller", "a column of taps", (16, 16), (40, 9), kernel=(23, 1), padding=(11, 0)),
    case("wider", "a row of taps", (16, 16), (5, 300), kernel=(1, 100), padding=(0, 50)),
    case("far_taps", "taps that share no source", (16, 16), (30, 31), dilation=9, padding=9),
    case("strides", "rows in four phases", (16, 16), (39, 41), kernel=(9, 9), stride=4, padding=4),
    case("seen_by_none", "phases of no tap", (16, 16), (17, 18), kernel=(2, 1), stride=3),
    case("7x7_map", "narrow rows: lanes are groups", (32, 32), (7, 7), N=3, padding=1),
    case("37_maps", "the last vector of groups overlaps", (37, 37), (9, 8), N=2, padding=1),
    case("strided_map", "narrow results of wide rows", (32, 32), (21, 19), stride=2, padding=1),
    case("wide_map", "as wide as one is under a stride", (37, 37), (40, 56), stride=2, padding=1),
    case("one_pixel", "taps that meet padding alone", (16, 16), (1, 1), N=9, padding=1),
    case("long_rows", "rows that are wide", (16, 16), (3, 3000), padding=1),
    case("last_images", "the last ones side by side are fewer", (6, 6), (7, 7), N=11, padding=1),
]
NAMED = [Case(**{**vars(each), "groups": each.channels[0]}) for each in NAMED]


@EVERY_FAST
@pytest.mark.usefixtures("kernel", "poisoned")
@pytest.mark.parametrize("sizes", [None, SMALL_CACHES], ids=["usual_caches", "small_caches"])
@pytest.mark.parametrize("case", NAMED, ids=str)
def test_exact_named(case: Case, sizes: tuple[int, int] | None) -> None:
    with caches(sizes):
        check_exact(case, torch.float32)


# The path


def pass_paths(case: Case, layout: torch.memory_format) -> dict[str, set[str]]:
    """The paths of each pass; of grad_input, those of all phases that meet a tap."""
    input, weight, _ = case.tensors(torch.float32)
    paths: dict[str, set[str]] = {}
    for plan in plans(input.contiguous(memory_format=layout), weight, None, **case.params):
        if plan.path != "zeros":
            paths.setdefault(plan.pass_name, set()).add(plan.path)
    return paths


@EVERY_FAST
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("case", NAMED[:11], ids=str)
def test_named_layers_take_the_path(case: Case, layout: torch.memory_format) -> None:
    assert set().union(*pass_paths(case, layout).values()) == {"depthwise"}


@EVERY_FAST
@pytest.mark.usefixtures("kernel")
def test_the_number_of_filters_does_not_decide_on_the_forward() -> None:
    """Otherwise a filter's digits would depend on others."""
    for layout in LAYOUTS:
        for filters in (1, 2, 64):
            layer = case("m", "", (32, 32 * filters), (9, 9), groups=32, padding=1)
            assert pass_paths(layer, layout)["forward"] == {"depthwise"}


@EVERY_FAST
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("image", "stride", "lanes"),
    [
        ((10, 10), 1, "groups"),
        ((10, 11), 1, "pixels of a row"),
        ((56, 56), 2, "groups"),
        ((56, 57), 2, "pixels of a row"),
        ((400, 56), 2, "pixels of a row"),  # the copies are larger than the cache
    ],
    ids=str,
)
def test_what_narrow_maps_have_in_their_lanes(
    image: tuple[int, int], stride: int, lanes: str
) -> None:
    layer = case("m", "", (16, 16), image, stride=stride, padding=1, groups=16)
    input, weight, _ = layer.tensors(torch.float32)
    assert plans(input, weight, None, **layer.params)[0].blocking["lanes"] == lanes


@EVERY_FAST
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("channels", "filters", "path"),
    [
        (1, 31, "depthwise"),
        (1, 32, "direct"),
        (2, 23, "depthwise"),
        (2, 24, "direct"),
        (4, 11, "depthwise"),
        (4, 12, "direct"),
    ],
)
def test_many_filters_of_a_group_are_lanes_of_grad_weight(
    channels: int, filters: int, path: str
) -> None:
    """32 filters, or 48 pairs of channels: the gradient of each sample of a first layer."""
    layer = case("m", "", (4 * channels, 4 * filters), (9, 9), groups=4, padding=1)
    assert pass_paths(layer, torch.contiguous_format)["grad_weight"] == {path}


@EVERY_FAST
@pytest.mark.usefixtures("kernel", "poisoned")
@pytest.mark.parametrize("filters", [1, 2])
@pytest.mark.parametrize("columns", [10, 11, 40], ids=["maps", "planes", "vectors"])
def test_each_channel_has_its_bias(columns: int, filters: int) -> None:
    """On zeros, where nothing else is added."""
    bias = 1.0 + torch.arange(37 * filters)
    weight = torch.ones(37 * filters, 1, 3, 3)
    for layout in LAYOUTS:
        image = torch.zeros(2, 37, 5, columns).contiguous(memory_format=layout)
        output = convgrad_ext.conv2d(image, weight, bias, padding=1, groups=37)
        assert torch.equal(output, bias[:, None, None].expand_as(output))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kernel", ["avx2"], indirect=True)
def test_rows_of_up_to_ten_pixels_have_groups_as_lanes() -> None:
    """As docs/architecture.md says; only then the plan names copies of maps."""
    for columns in (10, 11):
        layer = case("m", "", (16, 16), (40, columns), groups=16, padding=1)
        input, weight, _ = layer.tensors(torch.float32)
        for plan in plans(input, weight, None, **layer.params)[:2]:
            assert (plan.blocking.get("source") == "copies of maps") == (columns == 10)


# Groups of few adjacent channels

GROUPS = [
    case("two", "pairs of channels", (32, 32), (9, 13), groups=16, padding=1, N=2),
    case("four", "the last vector overlaps", (36, 36), (9, 13), groups=9, padding=1),
    case("fewer", "more filters than channels", (32, 64), (9, 13), groups=16, padding=1),
    case("strided", "taps in two phases", (32, 32), (19, 23), groups=16, stride=2, padding=1),
    case("dilated", "taps that are apart", (32, 32), (19, 23), groups=16, dilation=2, padding=2),
    case("tall", "a column of taps", (32, 32), (19, 5), kernel=(7, 1), groups=16, padding=(3, 0)),
    case("wide", "more taps than a slide has", (32, 32), (5, 29), kernel=(1, 9), groups=16),
]


@EVERY_FAST
@pytest.mark.usefixtures("kernel", "poisoned")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", GROUPS, ids=str)
def test_groups_are_exact(case: Case, dtype: torch.dtype) -> None:
    check_exact(case, dtype)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kernel", ["avx2"], indirect=True)
@pytest.mark.parametrize("case", GROUPS, ids=str)
def test_groups_have_the_channels_of_several_as_lanes(case: Case) -> None:
    """Of eight; but grad_input of twice as many filters has sources in two vectors."""
    input, weight, _ = case.tensors(torch.float32)
    input = input.contiguous(memory_format=torch.channels_last)
    for plan in plans(input, weight, None, **case.params):
        fits = (case.name, plan.pass_name) != ("fewer", "grad_input")
        assert (plan.blocking.get("lanes") == "channels of groups") == fits


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kernel", ["avx2"], indirect=True)
@pytest.mark.parametrize(
    ("channels", "groups", "reason"),
    [
        (24, 8, "three channels are no part of eight lanes"),
        (64, 8, "eight channels fill the lanes of one vector"),
        (4, 2, "four channels fill no vector"),
    ],
)
def test_other_groups_take_other_loops(channels: int, groups: int, reason: str) -> None:
    layer = case("g", reason, (channels, channels), (9, 13), groups=groups, padding=1)
    input, weight, _ = layer.tensors(torch.float32)
    input = input.contiguous(memory_format=torch.channels_last)
    found = plans(input, weight, None, **layer.params)
    assert [plan.blocking.get("lanes") for plan in found].count("channels of groups") == 0


# Loops for what is not finite


@EVERY_FAST
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("special", [torch.inf, torch.nan])
@pytest.mark.parametrize(
    ("image", "N"), [((9, 30), 2), ((7, 7), 11)], ids=["wide_rows", "images_side_by_side"]
)
@pytest.mark.parametrize("convolve", PASSES, ids=str)
def test_one_channel_that_is_not_finite_leaves_the_others(
    convolve: Pass, image: tuple[int, int], N: int, special: float
) -> None:
    """Bit for bit: the others are computed as without it."""
    layer = case("d", "", (24, 24), image, groups=24, padding=1, N=N)
    a, b = (whole(tuple(s), 1).float() / 3 for s in convolve.sizes(layer))
    changed = b.clone()
    axis = 0 if convolve.sizes(layer)[1] == layer.weight_size else 1
    changed.select(axis, 5)[..., 0, 0] = special
    for layout in LAYOUTS:
        plain, other = (
            convolve.ours(
                layer, a.contiguous(memory_format=layout), x.contiguous(memory_format=layout)
            )
            for x in (b, changed)
        )
        channels = 0 if plain.shape == torch.Size(layer.weight_size) else 1
        same = [c for c in range(24) if c != 5]
        assert torch.equal(*(t.index_select(channels, torch.tensor(same)) for t in (plain, other)))
        assert not other.select(channels, 5).isfinite().all()
        assert other.select(channels, 5).isfinite().any()


# Threads


@EVERY_FAST
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("channels", "groups"), [(4, 4), (40, 40), (48, 24)], ids=["chunks", "many_groups", "pairs"]
)
def test_digits_do_not_depend_on_threads(channels: int, groups: int) -> None:
    layer = case("t", "", (channels, channels), (61, 67), groups=groups, padding=1, N=5)
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(tuple(size), generator=generator)
        for size in (layer.input_size, layer.weight_size, output_size(layer))
    ]
    for layout in LAYOUTS:
        cast = [t.contiguous(memory_format=layout) for t in tensors]
        one = ours(layer, *cast)
        torch.set_num_threads(3)
        try:
            three = ours(layer, *cast)
        finally:
            torch.set_num_threads(1)
        assert all(map(torch.equal, one, three))
