"""What conv2d and its gradients accept, and that the result is PyTorch's for each of the forms."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from expected import output_like
from tolerance import assert_sums_equal, rounding_bound
from torch import Tensor, nn

import convgrad_ext
from convgrad_ext.cases import CASES, Case

INPUT, WEIGHT = (2, 4, 9, 8), (6, 4, 3, 2)
REDUCTION = 4 * 3 * 2 + 1  # products and the bias


def random(*size: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(size, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def operands(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weight and bias."""
    sizes = INPUT, WEIGHT, WEIGHT[:1]
    input, weight, bias = (random(*s, dtype=dtype, seed=i) for i, s in enumerate(sizes))
    return input, weight, bias


def assert_close(actual: Tensor, expected: Tensor, reduction: int = REDUCTION) -> None:
    """Equal up to the rounding of sums of `reduction` products that are a few units large."""
    assert_sums_equal(actual, expected, torch.full_like(expected, 10 * reduction), reduction)


def assert_same_convolution(*tensors: Tensor | None, **params: Any) -> None:
    """Output and all gradients are F.conv2d's for the same call."""
    ours = with_gradients(convgrad_ext.conv2d, *tensors, **params)
    theirs = with_gradients(F.conv2d, *tensors, **params)
    for actual, expected in zip(ours, theirs, strict=True):
        assert_close(actual, expected, reduction=500)


def with_gradients(function: Callable[..., Tensor], *tensors: Tensor | None, **params: Any) -> list:
    leaves = [None if t is None else t.detach().requires_grad_() for t in tensors]
    output = function(*leaves, **params)
    cotangent = random(*output.shape, dtype=output.dtype, seed=9)
    wanted = [leaf for leaf in leaves if leaf is not None]
    return [output, *torch.autograd.grad(output, wanted, cotangent)]


# Signatures


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Names and defaults, in order; inspect's `empty` for what must be given."""
    return {name: p.default for name, p in inspect.signature(function).parameters.items()}


def test_signature_of_conv2d() -> None:
    """F.conv2d is built in and cannot be inspected; its documentation has this."""
    assert list(defaults(convgrad_ext.conv2d).items()) == [
        ("input", inspect.Parameter.empty),
        ("weight", inspect.Parameter.empty),
        ("bias", None),
        ("stride", 1),
        ("padding", 0),
        ("dilation", 1),
        ("groups", 1),
    ]


@pytest.mark.parametrize("name", ["conv2d_input", "conv2d_weight"])
def test_signatures_of_the_gradients_are_torchs(name: str) -> None:
    ours, theirs = getattr(convgrad_ext, name), getattr(torch.nn.grad, name)
    assert list(defaults(ours).items()) == list(defaults(theirs).items())


def test_arguments_by_position() -> None:
    tensors = operands()
    args = ((2, 1), (1, 2), (1, 3), 1)
    assert_close(convgrad_ext.conv2d(*tensors, *args), F.conv2d(*tensors, *args))


def test_arguments_by_name() -> None:
    input, weight, bias = operands()
    params = {"groups": 2, "dilation": 2, "padding": 1, "stride": 3}
    named = {**params, "bias": bias, "weight": weight[:, :2], "input": input}
    assert_close(convgrad_ext.conv2d(**named), F.conv2d(**named))


# Forms of an argument


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(2, id="int"),
        pytest.param((2, 1), id="tuple"),
        pytest.param([1, 2], id="list"),
        pytest.param((2,), id="tuple_of_one"),
        pytest.param([2], id="list_of_one"),
        pytest.param(torch.Size([1, 2]), id="torch_size"),
        pytest.param(np.int64(2), id="numpy_int"),
        pytest.param((np.int32(1), np.int64(2)), id="tuple_of_numpy_ints"),
        pytest.param(torch.tensor(2), id="tensor_of_one_int"),
    ],
)
@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
def test_forms_of_a_pair(name: str, value: Any) -> None:
    tensors = operands()
    ours = convgrad_ext.conv2d(*tensors, **{name: value})
    assert_close(ours, F.conv2d(*tensors, **{name: value}))


@pytest.mark.parametrize("groups", [np.int64(2), torch.tensor(2)], ids=["numpy_int", "tensor"])
def test_forms_of_groups(groups: Any) -> None:
    input, weight, bias = operands()
    ours = convgrad_ext.conv2d(input, weight[:, :2], bias, groups=groups)
    assert_close(ours, F.conv2d(input, weight[:, :2], bias, groups=2))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("dilation", [1, (2, 3)], ids=str)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_padding_by_name(padding: str, dilation: Any) -> None:
    assert_same_convolution(*operands(), padding=padding, dilation=dilation)


@pytest.mark.parametrize(
    "padding",
    [
        pytest.param(((1, 0), (0, 2)), id="tuples"),
        pytest.param([[0, 3], [1, 0]], id="lists"),
        pytest.param(((4, 0), (0, 5)), id="beyond_the_kernel"),
        pytest.param(((2, 2), (1, 1)), id="both_sides_alike"),
        pytest.param(((0, 0), (0, 0)), id="none"),
        pytest.param(((np.int64(1), 0), (torch.tensor(2), 0)), id="other_ints"),
    ],
)
@pytest.mark.parametrize("stride", [1, (2, 3)], ids=["", "strided"])
def test_asymmetric_padding_is_padding_first(padding: Any, stride: Any) -> None:
    def padded_first(input: Tensor, *rest: Any, padding: Any, **params: Any) -> Tensor:
        (top, bottom), (left, right) = padding
        return F.conv2d(F.pad(input, tuple(map(int, (left, right, top, bottom)))), *rest, **params)

    ours = with_gradients(convgrad_ext.conv2d, *operands(), padding=padding, stride=stride)
    theirs = with_gradients(padded_first, *operands(), padding=padding, stride=stride)
    for actual, expected in zip(ours, theirs, strict=True):
        assert_close(actual, expected, reduction=500)


# 'same' with a stride


def tensorflow_same(extent: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """https://www.tensorflow.org/api_docs/python/tf/nn: the odd pixel at the end."""
    span = dilation * (kernel - 1) + 1
    last = stride if extent % stride == 0 else extent % stride
    total = max(span - last, 0)
    return total // 2, total - total // 2


SAME = [
    pytest.param((9, 8), (3, 3), (2, 2), (1, 1), id="odd_kernel"),
    pytest.param((9, 8), (4, 2), (2, 3), (1, 1), id="even_kernel"),
    pytest.param((9, 8), (1, 1), (3, 3), (1, 1), id="stride_exceeds_kernel"),
    pytest.param((9, 8), (3, 2), (2, 3), (2, 3), id="dilated"),
    pytest.param((2, 3), (3, 3), (5, 7), (1, 1), id="stride_exceeds_input"),
    pytest.param((9, 8), (3, 3), (9, 8), (1, 1), id="stride_equals_input"),
    pytest.param((1, 1), (5, 4), (2, 1), (1, 1), id="single_pixel"),
    pytest.param((9, 8), (3, 5), (1, 2), (1, 1), id="one_axis"),
]


@pytest.mark.parametrize(("image", "kernel", "stride", "dilation"), SAME)
def test_same_with_a_stride(image: tuple, kernel: tuple, stride: tuple, dilation: tuple) -> None:
    """Output ceil(H/stride) x ceil(W/stride), and TensorFlow's split of the padding."""
    input, weight = random(2, 3, *image), random(4, 3, *kernel, seed=1)
    vertical, horizontal = map(tensorflow_same, image, kernel, stride, dilation)
    expected = F.conv2d(F.pad(input, horizontal + vertical), weight, None, stride, 0, dilation)
    ours = convgrad_ext.conv2d(input, weight, None, stride, "same", dilation)
    assert ours.shape[2:] == (-(-image[0] // stride[0]), -(-image[1] // stride[1]))
    assert_close(ours, expected, reduction=100)


def test_same_of_one_image() -> None:
    input, weight, bias = operands()
    expected = F.conv2d(F.pad(input[0], (0, 0, 1, 1)), weight, bias, stride=2)
    assert_close(convgrad_ext.conv2d(input[0], weight, bias, stride=2, padding="same"), expected)


# Numbers of images and channels


def test_one_image_without_batch() -> None:
    input, weight, bias = operands()
    assert convgrad_ext.conv2d(input[0], weight).dim() == 3
    assert_same_convolution(input[0], weight, bias, stride=2, padding=1)


def test_gradients_of_one_image_without_batch() -> None:
    input, weight, _ = operands()
    grad_output = random(6, 4, 4)
    params = {"stride": 2, "padding": 0}
    batched = torch.nn.grad.conv2d_input((1, *INPUT[1:]), weight, grad_output[None], **params)
    ours = convgrad_ext.conv2d_input(INPUT[1:], weight, grad_output, **params)
    assert_close(ours, batched[0])
    batched = torch.nn.grad.conv2d_weight(input[:1], WEIGHT, grad_output[None], **params)
    ours = convgrad_ext.conv2d_weight(input[0], WEIGHT, grad_output, **params)
    assert_close(ours, batched)


EMPTY = [
    pytest.param((0, 4, 9, 8), (6, 4, 3, 2), {"padding": 1}, id="no_image"),
    pytest.param((2, 0, 9, 8), (6, 0, 3, 2), {"padding": 1}, id="no_channel"),
    pytest.param((2, 0, 9, 8), (6, 0, 3, 2), {"groups": 2, "stride": 2}, id="no_channel_in_groups"),
    pytest.param((0, 9, 8), (6, 0, 3, 2), {}, id="no_channel_of_one_image"),
    pytest.param((0, 0, 9, 8), (6, 0, 3, 2), {}, id="no_image_and_no_channel"),
    pytest.param((0, 4, 0, 8), (6, 4, 1, 1), {"padding": 1}, id="no_image_and_no_height"),
    pytest.param((2, 0, 0, 8), (6, 0, 1, 1), {"padding": 1}, id="no_channel_and_no_height"),
]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("bias", [True, False], ids=["bias", ""])
@pytest.mark.parametrize(("input_size", "weight_size", "params"), EMPTY)
def test_empty_inputs(input_size: tuple, weight_size: tuple, params: dict, bias: bool) -> None:
    """As PyTorch: without input channels there is no output channel; all gradients are zero."""
    tensors = random(*input_size), random(*weight_size), random(6) if bias else None
    ours = with_gradients(convgrad_ext.conv2d, *tensors, **params)
    theirs = with_gradients(F.conv2d, *tensors, **params)
    assert ours[0].shape == theirs[0].shape
    for actual, expected in zip(ours, theirs, strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.usefixtures("kernel", "poisoned")
def test_empty_inputs_by_hand() -> None:
    """A weight that met no image has the gradient zero, and it is written."""
    output, grad_input, grad_weight, grad_bias = with_gradients(
        convgrad_ext.conv2d, random(0, 4, 5, 5), random(6, 4, 3, 3), random(6)
    )
    assert (output.shape, grad_input.shape) == ((0, 6, 3, 3), (0, 4, 5, 5))
    assert torch.equal(grad_weight, torch.zeros(6, 4, 3, 3, dtype=torch.float64))
    assert torch.equal(grad_bias, torch.zeros(6, dtype=torch.float64))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("exponent", [3, 12, 20, 40, 62])
@pytest.mark.parametrize("padding", [0, 2])
def test_stride_beyond_the_image(exponent: int, padding: int) -> None:
    """One output. A larger stride asks for nothing more, neither of memory nor of int64."""
    assert_same_convolution(*operands(), stride=2**exponent, padding=padding)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("exponent", [3, 12, 20, 40])
def test_dilation_beyond_the_image(exponent: int) -> None:
    """With as much padding the middle tap alone meets pixels: a kernel of one tap."""
    input, weight, far = random(2, 4, 5, 5), random(6, 4, 3, 3), 2**exponent
    ours = convgrad_ext.conv2d(input, weight, padding=far, dilation=far)
    assert_close(ours, F.conv2d(input, weight[:, :, 1:2, 1:2]))


# How tensors lie in memory


def strided_steps(x: Tensor) -> Tensor:
    """The same numbers, each with another one between it and the next."""
    wide = torch.stack((x, torch.full_like(x, torch.nan)), dim=-1)
    return wide[..., 0]


def behind_an_offset(x: Tensor) -> Tensor:
    return torch.cat((torch.full((7,), torch.nan, dtype=x.dtype), x.flatten()))[7:].view(x.shape)


def inside_a_larger_image(x: Tensor) -> Tensor:
    """What lies around must not be read for padding."""
    around = F.pad(x, (1, 2, 2, 1), value=torch.nan)
    return around[..., 2:-1, 1:-2]


def transposed(x: Tensor) -> Tensor:
    return x.transpose(0, 3).contiguous().transpose(0, 3)


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


LAYOUTS = [
    pytest.param(strided_steps, id="steps_of_two"),
    pytest.param(behind_an_offset, id="storage_offset"),
    pytest.param(inside_a_larger_image, id="inside_a_larger_image"),
    pytest.param(transposed, id="transposed"),
    pytest.param(channels_last, id="channels_last"),
    pytest.param(torch.clone, id="contiguous"),
]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("weight_layout", LAYOUTS)
@pytest.mark.parametrize("input_layout", LAYOUTS)
def test_layouts(input_layout: Callable, weight_layout: Callable) -> None:
    input, weight, bias = operands()
    assert torch.equal(input_layout(input), input)
    tensors = input_layout(input), weight_layout(weight), strided_steps(bias)
    ours = with_gradients(convgrad_ext.conv2d, *tensors, stride=2, padding=1)
    theirs = with_gradients(F.conv2d, input, weight, bias, stride=2, padding=1)
    for actual, expected in zip(ours, theirs, strict=True):
        assert_close(actual, expected, reduction=500)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_grad_output(layout: Callable) -> None:
    input, weight, _ = operands()
    grad_output = random(2, 6, 4, 4)
    theirs = torch.nn.grad.conv2d_input(INPUT, weight, grad_output, stride=2)
    assert_close(convgrad_ext.conv2d_input(INPUT, weight, layout(grad_output), stride=2), theirs)
    theirs = torch.nn.grad.conv2d_weight(input, WEIGHT, grad_output, stride=2)
    ours = convgrad_ext.conv2d_weight(input, WEIGHT, layout(grad_output), stride=2)
    assert_close(ours, theirs, reduction=500)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("axis", range(4))
def test_expanded_operands(axis: int) -> None:
    """Strides of 0: the sum's gradient, among others, is such a tensor."""
    input, weight, _ = operands()
    input = input.narrow(axis, 0, 1).expand(INPUT)
    assert_close(convgrad_ext.conv2d(input, weight), F.conv2d(input.clone(), weight))
    weight = weight.narrow(axis, 0, 1).expand(WEIGHT)
    assert_close(convgrad_ext.conv2d(input, weight), F.conv2d(input.clone(), weight.clone()))
    grad_output = random(2, 6, 7, 7).narrow(axis, 0, 1).expand(2, 6, 7, 7)
    theirs = torch.nn.grad.conv2d_weight(input.clone(), WEIGHT, grad_output.clone())
    assert_close(convgrad_ext.conv2d_weight(input, WEIGHT, grad_output), theirs, reduction=500)
    theirs = torch.nn.grad.conv2d_input(INPUT, weight.clone(), grad_output.clone())
    assert_close(convgrad_ext.conv2d_input(INPUT, weight, grad_output), theirs)


@pytest.mark.usefixtures("kernel")
def test_overlapping_operands() -> None:
    """Windows onto one row of numbers: each image is the one before, moved by a pixel."""
    numbers = random(2 * 4 * 9 * 8)
    input = numbers.as_strided(INPUT, (1, 3, 5, 2), storage_offset=11)
    weight = numbers.as_strided(WEIGHT, (2, 1, 4, 3))
    assert_close(convgrad_ext.conv2d(input, weight), F.conv2d(input.clone(), weight.clone()))


@pytest.mark.usefixtures("kernel")
def test_one_tensor_as_both_operands() -> None:
    x = random(4, 4, 3, 3)
    assert_close(convgrad_ext.conv2d(x, x, padding=1), F.conv2d(x, x, padding=1), reduction=40)


def test_operands_are_not_written() -> None:
    tensors = operands()
    copies = [t.clone() for t in tensors]
    with_gradients(convgrad_ext.conv2d, *tensors, padding=1)
    assert all(torch.equal(t, c) for t, c in zip(tensors, copies, strict=True))
    assert [t._version for t in tensors] == [0, 0, 0]


def test_result_is_memory_of_its_own() -> None:
    """Also where nothing is computed: a 1x1 filter of ones, one channel."""
    input = random(2, 1, 5, 5)
    output = convgrad_ext.conv2d(input, torch.ones(1, 1, 1, 1, dtype=torch.float64))
    output.zero_()
    assert not torch.equal(input, torch.zeros_like(input))


@pytest.mark.parametrize("view", ["conj", "neg"])
@pytest.mark.parametrize("which", ["input", "weight", "both"])
def test_lazy_conjugates_and_negatives(view: str, which: str) -> None:
    """Views that carry a bit instead of the numbers that they stand for."""
    input, weight, _ = operands(torch.complex128)

    def lazy(x: Tensor) -> Tensor:
        return x.conj() if view == "conj" else x.conj().imag

    plain = (lambda x: x) if view == "conj" else (lambda x: x.real)
    viewed = [
        lazy(x) if which in (name, "both") else plain(x)
        for name, x in (("input", input), ("weight", weight))
    ]
    assert any(x.is_conj() or x.is_neg() for x in viewed)
    clean = [x.resolve_conj().resolve_neg().clone() for x in viewed]
    ours = with_gradients(convgrad_ext.conv2d, *viewed)
    theirs = with_gradients(F.conv2d, *clean)
    for actual, expected in zip(ours, theirs, strict=True):
        assert_close(actual.resolve_conj().resolve_neg(), expected, reduction=500)


# Memory formats

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
FORMAT_SIZES = [
    pytest.param((2, 4, 5, 6), (6, 4, 3, 3), 1, id="plain"),
    pytest.param((1, 4, 5, 6), (6, 4, 3, 3), 1, id="one_image"),
    pytest.param((2, 1, 5, 6), (6, 1, 3, 3), 1, id="one_channel_in"),
    pytest.param((2, 4, 5, 6), (1, 4, 3, 3), 1, id="one_channel_out"),
    pytest.param((2, 1, 5, 6), (1, 1, 3, 3), 1, id="one_channel_in_and_out"),
    pytest.param((2, 4, 5, 6), (6, 4, 1, 1), 1, id="one_tap"),
    pytest.param((2, 1, 5, 6), (6, 1, 1, 1), 1, id="one_tap_of_one_channel"),
    pytest.param((2, 4, 1, 1), (6, 4, 1, 1), 1, id="one_pixel"),
    pytest.param((2, 1, 1, 1), (6, 1, 1, 1), 1, id="one_pixel_of_one_channel"),
    pytest.param((2, 4, 3, 3), (6, 4, 3, 3), 1, id="one_output"),
    pytest.param((2, 4, 5, 1), (6, 4, 3, 1), 1, id="one_column"),
    pytest.param((2, 4, 1, 5), (6, 4, 1, 3), 1, id="one_row"),
    pytest.param((2, 4, 5, 6), (6, 2, 3, 3), 2, id="grouped"),
    pytest.param((2, 4, 5, 6), (4, 1, 3, 3), 4, id="depthwise"),
]


def meaningful_strides(x: Tensor) -> list[int]:
    """An axis of extent 1 is never stepped along."""
    return [step for step, extent in zip(x.stride(), x.shape, strict=True) if extent > 1]


@pytest.mark.parametrize("weight_format", FORMATS)
@pytest.mark.parametrize("input_format", FORMATS)
@pytest.mark.parametrize(("input_size", "weight_size", "groups"), FORMAT_SIZES)
def test_memory_format_is_torchs(
    input_size: tuple, weight_size: tuple, groups: int, input_format: str, weight_format: str
) -> None:
    def run(function: Callable[..., Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        input = torch.ones(input_size).contiguous(memory_format=FORMATS[input_format])
        weight = torch.ones(weight_size).contiguous(memory_format=FORMATS[weight_format])
        output = function(input.requires_grad_(), weight.requires_grad_(), groups=groups)
        output.sum().backward()
        return output, input.grad, weight.grad

    (ours, *gradients), (theirs, *their_gradients) = run(convgrad_ext.conv2d), run(F.conv2d)
    assert ours.stride() == theirs.stride()
    for actual, expected in zip(gradients, their_gradients, strict=True):
        assert meaningful_strides(actual) == meaningful_strides(expected)


def test_channels_last_by_hand() -> None:
    """Channels next to each other: 6, then columns of 6, then rows of 4*6."""
    input = torch.ones(2, 4, 5, 6).contiguous(memory_format=torch.channels_last)
    assert convgrad_ext.conv2d(input, torch.ones(6, 4, 3, 3)).stride() == (72, 1, 24, 6)


# requires_grad


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=3)), ids=str)
def test_requires_grad_of_the_output(wanted: tuple[bool, bool, bool]) -> None:
    tensors = [t.requires_grad_(w) for t, w in zip(operands(), wanted, strict=True)]
    output = convgrad_ext.conv2d(*tensors)
    assert output.requires_grad == any(wanted)
    assert output.is_leaf != any(wanted)
    with torch.no_grad():
        assert not convgrad_ext.conv2d(*tensors).requires_grad
    with torch.inference_mode():
        assert convgrad_ext.conv2d(*tensors).is_inference()


@pytest.mark.parametrize("wanted", [(False, True), (True, False), (True, True)], ids=str)
def test_only_wanted_gradients_come_back(wanted: tuple[bool, bool]) -> None:
    input, weight, _ = operands()
    input.requires_grad_(wanted[0])
    weight.requires_grad_(wanted[1])
    convgrad_ext.conv2d(input, weight).sum().backward()
    assert (input.grad is not None, weight.grad is not None) == wanted


# Dtypes

INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


def small_integers(*size: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    least = 0 if dtype == torch.uint8 else -9
    return torch.randint(least, 10, size, generator=generator).to(dtype)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("params", [{}, {"stride": 2, "padding": 1}, {"padding": (0, 3)}], ids=str)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_are_exact(dtype: torch.dtype, params: dict[str, Any]) -> None:
    """Bit for bit as PyTorch, whose sums wrap around where they leave the type."""
    input, weight, bias = (
        small_integers(*size, dtype=dtype, seed=seed)
        for seed, size in enumerate((INPUT, WEIGHT, WEIGHT[:1]))
    )
    ours = convgrad_ext.conv2d(input, weight, bias, **params)
    theirs = F.conv2d(input, weight, bias, **params)
    assert ours.dtype == dtype
    assert torch.equal(ours, theirs)


def test_int8_sums_wrap_around() -> None:
    """100 + 100 = 200 is -56 in eight bits, and 4 * 100 = 400 is -112; so PyTorch."""
    for taps, wrapped in ((2, -56), (4, -112)):
        input = torch.full((1, 1, 1, taps), 100, dtype=torch.int8)
        weight = torch.ones((1, 1, 1, taps), dtype=torch.int8)
        assert F.conv2d(input, weight).item() == wrapped
        assert convgrad_ext.conv2d(input, weight).item() == wrapped


def test_int8_sums_come_back_into_range() -> None:
    """100 + 100 - 100 = 100: what wraps on the way is right in the end."""
    input = torch.full((1, 1, 1, 3), 100, dtype=torch.int8)
    weight = torch.tensor([1, 1, -1], dtype=torch.int8).view(1, 1, 1, 3)
    assert convgrad_ext.conv2d(input, weight).item() == 100


def test_int64_is_exact_beyond_the_digits_of_a_float() -> None:
    """2^53 + 1 has no float64."""
    input = torch.tensor([2**53, 1]).view(1, 1, 1, 2)
    assert convgrad_ext.conv2d(input, torch.ones_like(input)).item() == 2**53 + 1


FLOATS = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_floats_are_close_to_the_double_result(dtype: torch.dtype) -> None:
    """On the same, already rounded, operands; half precision rounds once, at the end."""
    wide = torch.complex128 if dtype.is_complex else torch.float64
    rounded = [t.to(dtype) for t in operands(wide)]
    exact = F.conv2d(*(t.to(wide) for t in rounded))
    magnitudes = F.conv2d(*(t.to(wide).abs() for t in rounded))
    ours = convgrad_ext.conv2d(*rounded)
    assert ours.dtype == dtype
    error = (ours.to(wide) - exact).abs()
    assert bool((error <= rounding_bound(REDUCTION, dtype) * magnitudes).all())


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    """4096 ones: in half precision the sum would stop at 2048 (float16) or 256 (bfloat16)."""
    ones = torch.ones(1, 4096, 1, 1, dtype=dtype)
    assert convgrad_ext.conv2d(ones, ones).item() == 4096
    image = torch.ones(1, 1, 64, 64, dtype=dtype)
    assert convgrad_ext.conv2d_weight(image, (1, 1, 1, 1), image).item() == 4096
    outputs = torch.ones(4096, 1, 1, 1, dtype=dtype)
    assert convgrad_ext.conv2d_input((1, 1, 1, 1), outputs, ones).item() == 4096


# Autocast


@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_lowers_float32(lower: torch.dtype) -> None:
    """The same dtype as PyTorch, nearly the same values, and gradients in the leaves' own dtype."""
    leaves = [t.float().requires_grad_() for t in operands()]
    with torch.autocast("cpu", lower):
        ours, theirs = convgrad_ext.conv2d(*leaves), F.conv2d(*leaves)
    assert ours.dtype == theirs.dtype == lower
    exact = F.conv2d(*(t.detach().to(lower).double() for t in leaves))
    assert (ours.double() - exact).abs().max() <= 4 * torch.finfo(lower).eps * exact.abs().max()
    ours.sum().backward()
    assert [leaf.grad.dtype for leaf in leaves] == [torch.float32] * 3
    double = [t.detach().to(lower).double().requires_grad_() for t in leaves]
    F.conv2d(*double).sum().backward()
    for leaf, reference in zip(leaves, double, strict=True):
        close = 4 * torch.finfo(lower).eps * reference.grad.abs().max()
        assert (leaf.grad - reference.grad).abs().max() <= close


def test_autocast_leaves_float64_alone() -> None:
    tensors = operands()
    expected = F.conv2d(*tensors)
    with torch.autocast("cpu", torch.bfloat16):
        ours = convgrad_ext.conv2d(*tensors)
    assert ours.dtype == torch.float64
    assert_close(ours, expected)


def test_autocast_leaves_integers_alone() -> None:
    ones = torch.ones(1, 1, 3, 3, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        assert convgrad_ext.conv2d(ones, ones).dtype == F.conv2d(ones, ones).dtype == torch.int64


def test_autocast_brings_operands_together() -> None:
    """A float32 input meets a bfloat16 weight; without autocast that is an error."""
    input, weight = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        ours = convgrad_ext.conv2d(input, weight)
    assert (ours.dtype, ours.item()) == (torch.bfloat16, 9)


def test_autocast_switched_off_changes_nothing() -> None:
    input, weight = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
        assert convgrad_ext.conv2d(input, weight).dtype == torch.float32


def test_autocast_of_a_module() -> None:
    layer = convgrad_ext.Conv2d(4, 6, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(1, 4, 5, 5)).dtype == torch.bfloat16
    assert layer.weight.dtype == torch.float32


# Tracing and tensors without data


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = convgrad_ext.Conv2d(2, 4, 3, stride=2, padding="same")
        self.second = convgrad_ext.Conv2d(4, 4, 3, padding=((2, 0), (1, 1)), groups=2)
        self.third = convgrad_ext.Conv2d(4, 1, 3, padding=1, padding_mode="reflect", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x)).relu())


def test_fx_traces_through_the_layers() -> None:
    net, x = Net().double(), random(2, 2, 7, 6)
    traced = torch.fx.symbolic_trace(net)
    called = [node.target for node in traced.graph.nodes if node.op == "call_function"]
    assert called.count(convgrad_ext.conv2d) == 3
    assert torch.equal(traced(x), net(x))


@pytest.mark.parametrize("case", [c for c in CASES if c.in_torch and c.padding != "same"], ids=str)
def test_meta_tensors_get_torchs_shape_and_strides(case: Case) -> None:
    def meta(*size: int) -> Tensor:
        return torch.empty(size, device="meta")

    tensors = meta(*case.input_size), meta(*case.weight_size), meta(case.weight_size[0])
    ours, theirs = convgrad_ext.conv2d(*tensors, **case.params), F.conv2d(*tensors, **case.params)
    assert ours.is_meta
    assert (ours.shape, ours.stride(), ours.dtype) == (theirs.shape, theirs.stride(), theirs.dtype)
    input, weight, _ = tensors
    grad_input = convgrad_ext.conv2d_input(case.input_size, weight, theirs, **case.params)
    grad_weight = convgrad_ext.conv2d_weight(input, case.weight_size, theirs, **case.params)
    assert (grad_input.is_meta, grad_weight.is_meta) == (True, True)
    assert (grad_input.shape, grad_weight.shape) == (input.shape, weight.shape)


def test_meta_tensors_have_gradients_and_formats() -> None:
    input = torch.empty(INPUT, device="meta").contiguous(memory_format=torch.channels_last)
    layer = convgrad_ext.Conv2d(4, 6, 3, device="meta")
    output = layer(input.requires_grad_())
    assert output.is_contiguous(memory_format=torch.channels_last)
    output.sum().backward()
    assert (input.grad.shape, layer.weight.grad.shape) == (INPUT, (6, 4, 3, 3))


def test_meta_gradients_without_images() -> None:
    """The gradients, alone, of the meta device."""
    weight = torch.empty(WEIGHT, device="meta")
    ours = convgrad_ext.conv2d_input(
        (0, *INPUT[1:]), weight, torch.empty(0, 6, 7, 7, device="meta")
    )
    assert (ours.shape, ours.device.type) == ((0, *INPUT[1:]), "meta")


# The gradients against torch.nn.grad

IN_TORCH = [c for c in CASES if c.in_torch and not isinstance(c.padding, str)]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("case", IN_TORCH, ids=str)
def test_conv2d_input_is_torchs(case: Case) -> None:
    input, weight, _ = case.tensors(torch.float64)
    grad_output = output_like(case, input, weight)
    arguments = [
        (case.input_size, w, g)
        for w, g in ((weight, grad_output), (weight.abs(), grad_output.abs()))
    ]
    ours = convgrad_ext.conv2d_input(*arguments[0], **case.params)
    theirs, magnitudes = (torch.nn.grad.conv2d_input(*a, **case.params) for a in arguments)
    assert_sums_equal(ours, theirs, magnitudes, reduction=weight[:, 0].numel())


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("case", IN_TORCH, ids=str)
def test_conv2d_weight_is_torchs(case: Case) -> None:
    input, weight, _ = case.tensors(torch.float64)
    grad_output = output_like(case, input, weight)
    arguments = [
        (i, case.weight_size, g)
        for i, g in ((input, grad_output), (input.abs(), grad_output.abs()))
    ]
    ours = convgrad_ext.conv2d_weight(*arguments[0], **case.params)
    theirs, magnitudes = (torch.nn.grad.conv2d_weight(*a, **case.params) for a in arguments)
    assert_sums_equal(ours, theirs, magnitudes, reduction=grad_output[:, 0].numel())


@pytest.mark.parametrize("form", [tuple, list, torch.Size], ids=["tuple", "list", "torch_size"])
def test_forms_of_a_size(form: Callable) -> None:
    input, weight, _ = operands()
    grad_output = F.conv2d(input, weight)
    theirs = torch.nn.grad.conv2d_input(form(INPUT), weight, grad_output)
    assert_close(convgrad_ext.conv2d_input(form(INPUT), weight, grad_output), theirs, reduction=500)
    theirs = torch.nn.grad.conv2d_weight(input, form(WEIGHT), grad_output)
    assert_close(
        convgrad_ext.conv2d_weight(input, form(WEIGHT), grad_output), theirs, reduction=500
    )


def test_sizes_of_numpy_ints() -> None:
    input, weight, _ = operands()
    grad_output = F.conv2d(input, weight)
    size = tuple(np.array(INPUT))
    theirs = torch.nn.grad.conv2d_input(INPUT, weight, grad_output)
    assert_close(convgrad_ext.conv2d_input(size, weight, grad_output), theirs, reduction=500)


@pytest.mark.parametrize("height", [7, 8])
def test_several_inputs_lead_to_one_output(height: int) -> None:
    """Why input_size is asked for: 7 and 8 rows under a kernel of 3 and a stride of 2 make 3."""
    weight, grad_output = random(1, 1, 3, 3), random(1, 1, 3, 3, seed=1)
    size = (1, 1, height, 7)
    ours = convgrad_ext.conv2d_input(size, weight, grad_output, stride=2)
    assert ours.shape == size
    assert_close(ours, torch.nn.grad.conv2d_input(size, weight, grad_output, stride=2))
    assert torch.equal(ours[..., 7:, :], torch.zeros(1, 1, height - 7, 7, dtype=torch.float64))
