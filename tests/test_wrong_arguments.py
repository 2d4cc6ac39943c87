"""Arguments of the wrong type, and sizes that PyTorch has no call for: the message names each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bad_calls import INPUT, OUTPUT, WEIGHT, WRONG_TYPES
from refusals import error_of

import convgrad_ext

# Arguments of the wrong type


@pytest.mark.parametrize(("name", "value", "expected"), WRONG_TYPES)
def test_wrong_types_name_argument_value_and_what_it_may_be(
    name: str, value: Any, expected: str
) -> None:
    """TypeErrors in PyTorch too, whose argument parser lists its overloads."""
    input, weight, grad_output = (torch.ones(size) for size in (INPUT, WEIGHT, OUTPUT))
    assert error_of(F.conv2d, input, weight, **{name: value})[0] is TypeError
    ours = TypeError, f"convgrad_ext: {name} must be {expected}, but got {value!r}"
    assert error_of(convgrad_ext.conv2d, input, weight, **{name: value}) == ours
    assert error_of(convgrad_ext.conv2d_input, INPUT, weight, grad_output, **{name: value}) == ours
    assert error_of(convgrad_ext.conv2d_weight, input, WEIGHT, grad_output, **{name: value}) == ours


TENSOR = torch.ones(1)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("conv2d", (None, TENSOR), "input must be a Tensor, but got NoneType"),
        ("conv2d", ([1.0], TENSOR), "input must be a Tensor, but got list"),
        ("conv2d", (np.ones(INPUT), TENSOR), "input must be a Tensor, but got ndarray"),
        ("conv2d", (TENSOR, None), "weight must be a Tensor, but got NoneType"),
        ("conv2d", (TENSOR, TENSOR, [1.0]), "bias must be a Tensor, but got list"),
        ("conv2d_input", (INPUT, None, TENSOR), "weight must be a Tensor, but got NoneType"),
        ("conv2d_input", (INPUT, TENSOR, 1.0), "grad_output must be a Tensor, but got float"),
        ("conv2d_weight", (None, WEIGHT, TENSOR), "input must be a Tensor, but got NoneType"),
        ("conv2d_weight", (TENSOR, WEIGHT, []), "grad_output must be a Tensor, but got list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_not_a_tensor(function: str, arguments: tuple, message: str) -> None:
    if function == "conv2d":
        assert error_of(F.conv2d, *arguments)[0] is TypeError
    ours = error_of(getattr(convgrad_ext, function), *arguments)
    assert ours == (TypeError, f"convgrad_ext: {message}")


@pytest.mark.parametrize("arguments", [{"pad": 1}, {"kernel_size": 3}, {"strides": 2}], ids=str)
def test_unknown_keywords(arguments: dict[str, int]) -> None:
    input, weight = torch.ones(INPUT), torch.ones(WEIGHT)
    assert error_of(F.conv2d, input, weight, **arguments)[0] is TypeError
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(arguments))}'"):
        convgrad_ext.conv2d(input, weight, **arguments)


# Calls that PyTorch does not have

SIZE_TOLD = (
    "Given input of size [2, 4, 5, 5] and weight of size [6, 4, 3, 3], expected grad_output to "
    "have the size [2, 6, 3, 3] of the output, but got {} instead"
)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((2, 6, 4, 3), id="height"),
        pytest.param((2, 6, 3, 2), id="width"),
        pytest.param((2, 5, 3, 3), id="channels"),
        pytest.param((1, 6, 3, 3), id="images"),
        pytest.param((6, 3, 3), id="unbatched_beside_batched"),
        pytest.param((), id="number"),
    ],
)
def test_grad_output_of_another_size(size: tuple[int, ...]) -> None:
    message = SIZE_TOLD.format(list(size))
    input, weight, grad_output = torch.ones(INPUT), torch.ones(WEIGHT), torch.ones(size)
    assert error_of(convgrad_ext.conv2d_input, INPUT, weight, grad_output) == (
        RuntimeError,
        message,
    )
    assert error_of(convgrad_ext.conv2d_weight, input, WEIGHT, grad_output) == (
        RuntimeError,
        message,
    )


def test_batched_grad_output_of_one_image() -> None:
    """Neither is taken for the other; the message names the sizes that do not match."""
    input, weight, grad_output = torch.ones(INPUT[1:]), torch.ones(WEIGHT), torch.ones(OUTPUT)
    message = "expected grad_output to have the size"
    with pytest.raises(RuntimeError, match=message):
        convgrad_ext.conv2d_input(INPUT[1:], weight, grad_output)
    with pytest.raises(RuntimeError, match=message):
        convgrad_ext.conv2d_weight(input, WEIGHT, grad_output)


NOT_A_SIZE = [
    pytest.param(None, id="none"),
    pytest.param(5, id="int"),
    pytest.param("2455", id="string"),
    pytest.param((2, 4.0, 5, 5), id="with_float"),
    pytest.param((2, 4, True, 5), id="with_bool"),
    pytest.param([2, 4, None, 5], id="with_none"),
]


@pytest.mark.parametrize("size", NOT_A_SIZE)
def test_not_a_size(size: Any) -> None:
    operand, grad_output = torch.ones(INPUT), torch.ones(OUTPUT)
    message = "convgrad_ext: {} must be a size, a tuple of ints, but got " + repr(size)
    assert error_of(convgrad_ext.conv2d_input, size, operand, grad_output) == (
        TypeError,
        message.format("input_size"),
    )
    assert error_of(convgrad_ext.conv2d_weight, operand, size, grad_output) == (
        TypeError,
        message.format("weight_size"),
    )


@pytest.mark.parametrize("size", [(), (5, 5), (1, 2, 4, 5, 5)], ids=str)
def test_input_size_of_wrong_length(size: tuple[int, ...]) -> None:
    message = "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: "
    ours = error_of(convgrad_ext.conv2d_input, size, torch.ones(WEIGHT), torch.ones(OUTPUT))
    assert ours == (RuntimeError, message + str(list(size)))


@pytest.mark.parametrize(
    "size", [(-2, 4, 5, 5), (2, -4, 5, 5), (2, 4, -5, 5), (2, 4, 5, -5)], ids=str
)
def test_negative_input_size(size: tuple[int, ...]) -> None:
    """Never an allocation of a negative size; the given size is in the message."""
    asked = next(str(extent) for extent in size if extent < 0)
    with pytest.raises(RuntimeError, match=asked):
        convgrad_ext.conv2d_input(size, torch.ones(WEIGHT), torch.ones(OUTPUT))


@pytest.mark.parametrize("size", [(6, 4, 0, 3), (6, 4, 3, 0)], ids=str)
def test_kernel_without_taps(size: tuple[int, ...]) -> None:
    """Each of PyTorch's backends fails in its own way, or gives zeros."""
    input, weight, grad_output = torch.ones(INPUT), torch.ones(size), torch.ones(OUTPUT)
    ours = (
        RuntimeError,
        f"weight: kernel size must be at least 1 x 1, but got weight of size {list(size)}",
    )
    assert error_of(convgrad_ext.conv2d, input, weight) == ours
    assert error_of(convgrad_ext.conv2d_input, INPUT, weight, grad_output) == ours
    assert error_of(convgrad_ext.conv2d_weight, input, size, grad_output) == ours


@pytest.mark.parametrize(
    "padding",
    [((-1, 0), (0, 0)), ((0, -1), (0, 0)), ((0, 0), (-1, 0)), ((3, 3), (3, -1))],
    ids=["top", "bottom", "left", "right"],
)
def test_negative_padding_of_one_side(padding: tuple) -> None:
    ours = error_of(convgrad_ext.conv2d, torch.ones(INPUT), torch.ones(WEIGHT), padding=padding)
    assert ours == (RuntimeError, "negative padding is not supported")


@pytest.mark.parametrize("stride", [0, -1, (1, 0)], ids=str)
def test_same_padding_of_a_bad_stride(stride: Any) -> None:
    """PyTorch takes no stride at all with 'same'; here any stride that is one."""
    input, weight = torch.ones(INPUT), torch.ones(WEIGHT)
    ours = error_of(convgrad_ext.conv2d, input, weight, padding="same", stride=stride)
    assert ours == (RuntimeError, "non-positive stride is not supported")
