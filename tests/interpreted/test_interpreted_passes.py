"""The Triton kernels against PyTorch on the CPU, executed by Triton's interpreter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import train_digits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import cases
from test_passes import Formats, check_against_torch, check_rounding
from torch import nn

import convgrad_ext
from convgrad_ext.cases import CASES, Case
from convgrad_ext.triton import calls, gather, passes, reduction, tiles, tuning
from convgrad_ext.triton.boxes import Operand

NHWC = torch.channels_last
FORMATS = [Formats(), Formats(NHWC, NHWC)]
MORE = (
    Case("joined_taps", "17 channels are not joined, 16 are", channels=(17, 16), padding=1),
    Case("blocks", "several blocks of channels", channels=(70, 150), kernel=(1, 2)),
    Case("pixels", "several blocks of pixels", N=3, image=(9, 14), padding=1),
    Case("groups", "of many channels", channels=(24, 40), groups=2, stride=2, padding=1),
    Case("depthwise_blocks", "several blocks of groups", channels=(70, 70), groups=70, padding=1),
)


@pytest.fixture
def launched() -> Iterator[None]:
    """What passes has run in Triton."""
    tuning.use({})  # other tiles, even if they are the same, have other launches
    before = calls.launch_of.cache_info().misses
    yield
    assert calls.launch_of.cache_info().misses > before
    tuning.use({})


@pytest.mark.usefixtures("poisoned", "launched")
@pytest.mark.parametrize("formats", FORMATS, ids=["nchw", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES + MORE, ids=str)
def test_named_cases_agree_with_torch(case: Case, dtype: torch.dtype, formats: Formats) -> None:
    check_against_torch(case, dtype, formats)


@pytest.mark.usefixtures("poisoned", "launched")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES + MORE, ids=str)
def test_halves_round_the_exact_result(case: Case, dtype: torch.dtype) -> None:
    check_rounding(case, dtype)


@pytest.mark.usefixtures("poisoned", "launched")
@pytest.mark.parametrize("of_split", [1, 7, 16, 40])
@pytest.mark.parametrize("groups", [1, 24], ids=["dense", "depthwise"])
def test_splits_of_grad_weight_are_added(
    groups: int, of_split: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last split has fewer pixels, or none."""
    monkeypatch.setattr(tiles, "PIXELS_OF_SPLIT", of_split)
    layer = Case("splits", "", N=3, channels=(24, 24), image=(7, 9), groups=groups, padding=1)
    check_against_torch(layer, torch.float64)


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize("groups", [1, 4], ids=["dense", "depthwise"])
@pytest.mark.parametrize("axis", [0, 1, 2], ids=["images", "channels", "rows"])
def test_offsets_may_need_64_bits(groups: int, axis: int) -> None:
    """Strides of 32 bits whose multiples are larger; few pages of the memory are ever real."""
    strides = [80, 20, 5, 1]
    strides[axis] = 2**30 + 400
    memory = torch.empty(3 * strides[axis] + 400, dtype=torch.float16)
    image = torch.randn(4, 4, 4, 5).half()
    large = memory.as_strided(image.shape, strides).copy_(image)
    weight = torch.randn(4, 4 // groups, 3, 3).half()
    output = convgrad_ext.conv2d(large, weight, padding=1, groups=groups)
    assert torch.equal(output, convgrad_ext.conv2d(image, weight, padding=1, groups=groups))
    params = (weight.shape, output, 1, 1, 1, groups)
    assert torch.equal(
        convgrad_ext.conv2d_weight(large, *params), convgrad_ext.conv2d_weight(image, *params)
    )


@pytest.mark.usefixtures("launched")
def test_a_converted_model_trains_as_on_the_cpu() -> None:
    """One step of the example's network: dense, depthwise, strided and dilated convolutions."""
    model = train_digits.digits_network(nn.Conv2d, seed=0, width=4)
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    model(images).square().sum().backward()
    expected = [p.grad for p in model.parameters()]
    converted = convgrad_ext.convert(model)
    converted.zero_grad()
    converted(images).square().sum().backward()
    for parameter, gradient in zip(converted.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("poisoned", "launched")
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=cases(), dtype=st.sampled_from(passes.DTYPES), formats=st.sampled_from(FORMATS))
def test_drawn_cases_agree_with_torch(case: Case, dtype: torch.dtype, formats: Formats) -> None:
    check(case, dtype, formats)


def check(case: Case, dtype: torch.dtype, formats: Formats) -> None:
    of = check_rounding if dtype.itemsize == 2 else check_against_torch
    of(case, dtype, formats)


@pytest.mark.parametrize("pass_name", ["forward", "grad_input", "grad_weight"])
def test_grids_stay_within_their_limits(pass_name: str) -> None:
    """CUDA takes 65535 programs along the second and third axis; nothing is computed here."""
    none = (0, 0, 0, 0)  # padding
    strided, grouped = ((300, 300), none, (1, 1), 1), ((1, 1), none, (1, 1), 2)
    many_phases = calls.convolution((1, 1, 600, 600), (1, 1, 2, 2), strided)
    many_columns = calls.convolution((1, 4096, 9, 9), (4, 2048, 7, 7), grouped)
    for conv in (many_phases, many_columns):
        sizes = (conv.input_size, conv.weight_size, (1, conv.weight_size[0], 3, 3))
        x, w, y = (
            Operand(torch.float32, torch.device("cpu"), size, (1, 1, 1, 1)) for size in sizes
        )
        launch = {
            "forward": gather.launch_of(gather.Gather(conv, True, x, w, y, False, "ieee", 80)),
            "grad_input": gather.launch_of(gather.Gather(conv, False, y, w, x, False, "ieee", 80)),
            "grad_weight": reduction.launches_of(
                reduction.Reduction(conv, x, y, w, "ieee", 80)
            ).sum,
        }[pass_name]
        assert max(launch.grid[1:]) <= 65535


def test_an_integer_is_refused() -> None:
    image, weight = torch.ones(1, 1, 3, 3).int(), torch.ones(1, 1, 2, 2).int()
    with pytest.raises(NotImplementedError, match=r"got torch\.int32"):
        convgrad_ext.conv2d(image, weight)
