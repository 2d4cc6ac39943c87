"""Operands and results of every layout in memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from operands import (
    INPUT,
    WEIGHT,
    assert_close,
    operands,
    random,
    with_gradients,
)
from torch import Tensor

import convgrad_ext

# The layout of the operands


def strided_steps(x: Tensor) -> Tensor:
    """The same numbers, with another number after each."""
    wide = torch.stack((x, torch.full_like(x, torch.nan)), dim=-1)
    return wide[..., 0]


def behind_an_offset(x: Tensor) -> Tensor:
    return torch.cat((torch.full((7,), torch.nan, dtype=x.dtype), x.flatten()))[7:].view(x.shape)


def inside_a_larger_image(x: Tensor) -> Tensor:
    """The numbers around the image must not be read for padding."""
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
    """Views of one row of numbers: each image is the one before, moved by a pixel."""
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
    """Views with a bit that changes the numbers which they store."""
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
    """The stride of an axis of extent 1 is never used."""
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
