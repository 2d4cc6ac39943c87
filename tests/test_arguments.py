"""Every form of argument that conv2d and its gradients accept: the result is PyTorch's."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from operands import (
    INPUT,
    WEIGHT,
    assert_close,
    assert_same_convolution,
    operands,
    random,
    with_gradients,
)
from torch import Tensor

import convgrad_ext

# Signatures


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Names and defaults, in order; inspect's `empty` for an argument without a default."""
    return {name: p.default for name, p in inspect.signature(function).parameters.items()}


def test_signature_of_conv2d() -> None:
    """F.conv2d is built in and cannot be inspected; its documentation has all but the last one."""
    assert list(defaults(convgrad_ext.conv2d).items()) == [
        ("input", inspect.Parameter.empty),
        ("weight", inspect.Parameter.empty),
        ("bias", None),
        ("stride", 1),
        ("padding", 0),
        ("dilation", 1),
        ("groups", 1),
        ("accumulate", None),
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
    """A weight without an image has the gradient zero, and it is written."""
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
    """One output. A larger stride takes no more memory, and fits into int64."""
    assert_same_convolution(*operands(), stride=2**exponent, padding=padding)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("exponent", [3, 12, 20, 40])
def test_dilation_beyond_the_image(exponent: int) -> None:
    """With equal padding only the middle tap meets pixels: a kernel of one tap."""
    input, weight, far = random(2, 4, 5, 5), random(6, 4, 3, 3), 2**exponent
    ours = convgrad_ext.conv2d(input, weight, padding=far, dilation=far)
    assert_close(ours, F.conv2d(input, weight[:, :, 1:2, 1:2]))


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
