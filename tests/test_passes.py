"""The three passes of every kernel against PyTorch, the scatter forms, and exact arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from blocked_cases import BLOCKED
from expected import output_like, torch_gradients
from forced_winograd import forced_winograd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import cases, patches
from tolerance import assert_sums_equal
from torch import Tensor

import convgrad_ext
from convgrad_ext import _C
from convgrad_ext.cases import CASES, Case

PRECISE = (torch.float64, torch.complex128)


def taps(case: Case) -> int:
    return case.kernel[0] * case.kernel[1]


def ours(case: Case, input: Tensor, weight: Tensor, bias: Tensor, grad_output: Tensor) -> tuple:
    """(output, grad_input, grad_weight, grad_bias), each from a call of its own."""
    return (
        convgrad_ext.conv2d(input, weight, bias, **case.params),
        convgrad_ext.conv2d_input(case.input_size, weight, grad_output, **case.params),
        convgrad_ext.conv2d_weight(input, case.weight_size, grad_output, **case.params),
        _C.grad_bias(grad_output),
    )


def torchs(case: Case, input: Tensor, weight: Tensor, bias: Tensor, grad_output: Tensor) -> tuple:
    output = case.torch_conv2d(input, weight, bias)
    return (output, *torch_gradients(case, input, weight, bias, grad_output=grad_output))


def reductions(case: Case, grad_output: Tensor) -> tuple[int, int, int, int]:
    """The number of products of the longest sum of each result."""
    outputs = grad_output.shape[0] * grad_output.shape[2] * grad_output.shape[3]
    C_in, C_out = case.channels
    per_tap = taps(case)
    return (
        C_in // case.groups * per_tap + 1,
        C_out // case.groups * per_tap,
        outputs,
        outputs,
    )


class Formats(NamedTuple):
    """The memory formats of the images, input and grad_output, and of the weight."""

    images: torch.memory_format = torch.contiguous_format
    weight: torch.memory_format = torch.contiguous_format


NCHW = Formats()


def tensors_of(case: Case, dtype: torch.dtype, formats: Formats) -> tuple[Tensor, Tensor, Tensor]:
    input, weight, bias = case.tensors(dtype)
    return (
        input.contiguous(memory_format=formats.images),
        weight.contiguous(memory_format=formats.weight),
        bias,
    )


def check_against_torch(case: Case, dtype: torch.dtype, formats: Formats = NCHW) -> None:
    tensors = tensors_of(case, dtype, formats)
    grad_output = output_like(case, *tensors).contiguous(memory_format=formats.images)
    magnitudes = torchs(case, *(t.abs() for t in tensors), grad_output.abs())
    for actual, expected, magnitude, reduction in zip(
        ours(case, *tensors, grad_output),
        torchs(case, *tensors, grad_output),
        magnitudes,
        reductions(case, grad_output),
        strict=True,
    ):
        assert_sums_equal(actual, expected, magnitude, reduction)


@pytest.mark.usefixtures("kernel", "poisoned")
@pytest.mark.parametrize("dtype", PRECISE, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_named_cases_agree_with_torch(case: Case, dtype: torch.dtype) -> None:
    """New memory is NaN: an element that a pass does not write would agree with nothing."""
    check_against_torch(case, dtype)


# The weight may have another memory format than the images.
FORMATS = {
    "nchw": NCHW,
    "channels_last": Formats(images=torch.channels_last, weight=torch.channels_last),
    "channels_last_images": Formats(images=torch.channels_last),
    "channels_last_weight": Formats(weight=torch.channels_last),
}


@pytest.mark.usefixtures("kernel", "poisoned")
@pytest.mark.parametrize("formats", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("case", BLOCKED, ids=str)
def test_blocked_cases_agree_with_torch(case: Case, formats: Formats) -> None:
    check_against_torch(case, torch.float64, formats)


@pytest.mark.usefixtures("kernel", "poisoned")
@given(case=cases())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_drawn_cases_agree_with_torch(case: Case) -> None:
    check_against_torch(case, torch.float64)


@pytest.mark.usefixtures("kernel", "poisoned")
@given(case=patches(), formats=st.sampled_from([*FORMATS.values()]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_gradients_of_drawn_patches_agree_with_torch(case: Case, formats: Formats) -> None:
    """Through autograd, whose gradient has the strides of the input under every weight."""
    check_against_torch(case, torch.float64, formats)
    tensors = tensors_of(case, torch.float64, formats)
    input = tensors[0].detach().requires_grad_()
    output = convgrad_ext.conv2d(input, *tensors[1:], **case.params)
    grad_output = torch.randn_like(output)
    (actual,) = torch.autograd.grad(output, input, grad_output)
    expected, *_ = torch_gradients(case, *tensors, grad_output=grad_output)
    magnitude, *_ = torch_gradients(
        case, *(t.abs() for t in tensors), grad_output=grad_output.abs()
    )
    assert actual.stride() == input.stride()
    assert_sums_equal(actual, expected, magnitude, reductions(case, grad_output)[1])


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.complex64], ids=str
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_lower_precision_rounds_the_exact_result(case: Case, dtype: torch.dtype) -> None:
    check_rounding(case, dtype)


def check_rounding(case: Case, dtype: torch.dtype, formats: Formats = NCHW) -> None:
    """Against PyTorch in double precision on the same, already rounded, operands."""
    precise = torch.complex128 if dtype.is_complex else torch.float64
    tensors = [t.to(dtype) for t in tensors_of(case, precise, formats)]
    wide = [t.to(precise) for t in tensors]
    grad_output = output_like(case, *wide).to(dtype).contiguous(memory_format=formats.images)
    exact = torchs(case, *wide, grad_output.to(wide[0].dtype))
    magnitudes = torchs(case, *(t.abs() for t in wide), grad_output.to(wide[0].dtype).abs())
    lengths = reductions(case, grad_output)
    for actual, expected, magnitude, reduction in zip(
        ours(case, *tensors, grad_output), exact, magnitudes, lengths, strict=True
    ):
        assert actual.dtype == dtype
        assert_sums_equal(actual, expected.to(dtype), magnitude, reduction)


def whole_numbers(case: Case, largest: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Input, weight, bias and grad_output in 0..largest, as float64."""
    generator = torch.Generator().manual_seed(2)

    def draw(size: Sequence[int]) -> Tensor:
        return torch.randint(0, largest + 1, tuple(size), generator=generator).double()

    input, weight, bias = map(draw, (case.input_size, case.weight_size, case.weight_size[:1]))
    return input, weight, bias, draw(case.torch_conv2d(input, weight).shape)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact_on_a_grid(case: Case, dtype: torch.dtype) -> None:
    """Multiples of 1/32 with products of 1/1024: their float32 sums are exact in any order."""
    tensors = [(t - 64) / 32 for t in whole_numbers(case, largest=128)]
    actual = ours(case, *(t.to(dtype) for t in tensors))
    for mine, exact in zip(actual, torchs(case, *tensors), strict=True):
        assert torch.equal(mine, exact.to(dtype))


INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_integers_are_exact(case: Case, dtype: torch.dtype) -> None:
    """All passes against float64, which holds these sums exactly; they fit the narrowest type."""
    tensors = whole_numbers(case, largest=1)
    actual = ours(case, *(t.to(dtype) for t in tensors))
    for mine, exact in zip(actual, torchs(case, *tensors), strict=True):
        assert torch.equal(mine, exact.to(dtype))


@pytest.mark.parametrize("dtype", [*PRECISE, torch.int64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gather_agrees_with_scatter(case: Case, dtype: torch.dtype) -> None:
    """Two loop nests that share only the relation; whole numbers, so bit for bit."""
    input, weight, _, grad_output = (t.to(dtype) for t in whole_numbers(case, largest=3))
    stride, dilation = ((v, v) if isinstance(v, int) else v for v in (case.stride, case.dilation))
    params = (stride, case.sides, dilation, case.groups)
    ops = torch.ops.convgrad_ext
    with convgrad_ext.use_kernel("reference"):
        grad_input = ops.conv2d_input(case.input_size, weight, grad_output, *params)
        grad_weight = ops.conv2d_weight(input, case.weight_size, grad_output, *params)
    scattered = _C.scatter_grad_input(case.input_size, weight, grad_output, *params)
    assert torch.equal(grad_input, scattered)
    scattered = _C.scatter_grad_weight(input, case.weight_size, grad_output, *params)
    assert torch.equal(grad_weight, scattered)


@pytest.mark.parametrize("pass_name", ["input", "weight"])
def test_complex_gradients_conjugate_in_both_forms(pass_name: str) -> None:
    """i * i = -1, but the gradient of a product conjugates: conj(i) * i = 1."""
    i = torch.full((1, 1, 1, 1), 1j, dtype=torch.complex128)
    function = getattr(_C, f"scatter_grad_{pass_name}")
    operands = ((1, 1, 1, 1), i, i) if pass_name == "input" else (i, (1, 1, 1, 1), i)
    assert function(*operands, (1, 1), (0, 0, 0, 0), (1, 1), 1).item() == 1
    assert getattr(convgrad_ext, f"conv2d_{pass_name}")(*operands).item() == 1


@pytest.mark.usefixtures("kernel", "poisoned")
def test_inputs_that_no_output_sees_get_zero() -> None:
    """Stride 3 under a kernel of 1: two pixels of three are never read, but are written."""
    grad = convgrad_ext.conv2d_input(
        (1, 1, 7, 7), torch.ones(1, 1, 1, 1), torch.ones(1, 1, 3, 3), stride=3
    )
    expected = torch.zeros(7, 7)
    expected[::3, ::3] = 1
    assert torch.equal(grad[0, 0], expected)


@pytest.mark.usefixtures("kernel", "poisoned")
def test_taps_that_only_meet_padding_get_zero() -> None:
    """3x3 pixels under taps 4 apart: all but the middle tap fall outside."""
    grad = convgrad_ext.conv2d_weight(
        torch.ones(1, 1, 3, 3), (1, 1, 3, 3), torch.ones(1, 1, 3, 3), padding=4, dilation=4
    )
    expected = torch.zeros(3, 3)
    expected[1, 1] = 9
    assert torch.equal(grad[0, 0], expected)


@pytest.mark.usefixtures("kernel", "poisoned")
def test_a_strip_of_one_pixel_has_every_channel() -> None:
    """Its channels are one number apart, and those of the image are not."""
    image, weight = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]), torch.tensor([10.0, 100.0])
    output = convgrad_ext.conv2d(image, weight.view(1, 2, 1, 1), stride=(1, 2))
    assert output.flatten().tolist() == [310.0]


@pytest.mark.usefixtures("kernel", "poisoned")
def test_no_image_of_no_column_has_a_gradient_of_zero() -> None:
    """Then strips have no size, and no number of them fits anywhere."""
    image, grad_output = torch.empty(0, 24, 8, 0), torch.empty(0, 64, 12, 4)
    grad = convgrad_ext.conv2d_weight(image, (64, 24, 3, 3), grad_output, padding=3)
    assert not grad.any()


# A thread is given half a million products or more: these have enough for seven threads.
LARGE = [
    Case("dense", "many channels", channels=(20, 28), image=(40, 41), padding=1),
    Case("strided", "phases", N=4, channels=(20, 28), image=(40, 41), padding=1, stride=2),
    Case("grouped", "few channels a group", N=4, channels=(30, 45), image=(40, 41), groups=3),
    Case("first", "grad_weight's pixels in chunks", channels=(3, 16), image=(180, 181), padding=1),
    Case("winograd", "patches", channels=(36, 40), image=(34, 35), kernel=(3, 3), padding=1),
    Case(
        "winograd_large",
        "one item has all patches",
        N=1,
        channels=(300, 460),
        image=(14, 15),
        kernel=(3, 3),
        padding=1,
    ),
    Case(
        "maps",
        "lanes are groups, in copies",
        N=4,
        channels=(205, 205),
        groups=205,
        image=(9, 8),
        kernel=(5, 5),
        padding=2,
    ),
    Case("1x1", "lanes along pixels", N=4, channels=(64, 80), image=(28, 27), kernel=(1, 1)),
]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("threads", [2, 3, 4, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_bitwise_the_same_for_any_number_of_threads(
    case: Case, dtype: torch.dtype, threads: int
) -> None:
    """Threads own destinations; no sum is split by the number of threads."""
    with forced_winograd(case.name.startswith("winograd")):
        check_threads(case, dtype, threads)


def check_threads(case: Case, dtype: torch.dtype, threads: int) -> None:
    tensors = case.tensors(dtype)
    grad_output = output_like(case, *tensors)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = ours(case, *tensors, grad_output)
        torch.set_num_threads(threads)
        together = ours(case, *tensors, grad_output)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
