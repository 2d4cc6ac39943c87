"""The argument forms of torch.nn.functional.conv2d, brought into one form."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor

from convgrad_ext.padding import same_padding

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]  # top, bottom, left, right
IntOrPair = int | Sequence[int]
PaddingLike = int | Sequence[int] | tuple[Pair, Pair] | str
Parameters = tuple[Pair, Padding, Pair, int]

INT_OR_PAIR = "an int or a tuple of two ints"
PADDING = "an int, (vertical, horizontal), ((top, bottom), (left, right)), 'same' or 'valid'"


def as_int(name: str, value: Any, expected: str, argument: Any) -> int:
    """`value`, all or part of what was passed as `name`, as an int of 64 bits."""
    if isinstance(value, torch.SymInt):
        return cast("int", value)  # __index__ would fix the symbol to its size now
    if not isinstance(value, bool):
        try:
            number = value if isinstance(value, int) else operator.index(value)
        except TypeError:
            pass
        else:
            check_64_bits(name, number, argument)
            return number
    raise TypeError(f"convgrad_ext: {name} must be {expected}, but got {argument!r}")


def check_64_bits(name: str, number: int, argument: Any) -> None:
    """The operators' integers are of 64 bits. PyTorch's errors are of the same two types."""
    if not fits_64_bits(number):
        error = ValueError if number is argument else TypeError
        raise error(
            f"convgrad_ext: {name} must be within -2**63 and 2**63 - 1, but got {argument!r}"
        )


def fits_64_bits(number: int) -> bool:
    return -(2**63) <= number < 2**63


def as_pair(name: str, value: Any, expected: str = INT_OR_PAIR) -> Pair:
    """An int for both axes, or one or two ints, as PyTorch takes them."""
    if type(value) is int and fits_64_bits(value):  # nearly every call; bool is another type
        return value, value
    if is_pair_of_ints(value):
        return value
    if not isinstance(value, (tuple, list)):
        number = as_int(name, value, expected, value)
        return number, number
    numbers = [as_int(name, v, expected, value) for v in value]
    if len(numbers) not in (1, 2):
        raise RuntimeError(
            f"expected {name} to be a single integer value or a list of 2 values to match the "
            f"convolution dimensions, but got {name}={numbers}"
        )
    return numbers[0], numbers[-1]


def is_pair_of_ints(value: Any) -> TypeGuard[Pair]:
    """Whether value is a pair as the operators take it, without subclasses of int such as bool."""
    return (
        type(value) is tuple
        and len(value) == 2
        and type(value[0]) is type(value[1]) is int
        and fits_64_bits(value[0])
        and fits_64_bits(value[1])
    )


def is_pair_of_pairs(padding: Any) -> bool:
    """Whether padding has the form ((top, bottom), (left, right))."""
    return is_two(padding) and is_two(padding[0]) and is_two(padding[1])


def is_two(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2


def as_pair_of_pairs(padding: Any) -> tuple[Pair, Pair]:
    """((top, bottom), (left, right)) as tuples of ints."""
    top, bottom, left, right = (
        as_int("padding", v, PADDING, padding) for side in padding for v in side
    )
    return (top, bottom), (left, right)


def torch_takes_padding(padding: Any, stride: Any) -> bool:
    """Whether torch.nn.functional.conv2d has this form of padding too."""
    strided = padding == "same" and as_pair("stride", stride) != (1, 1)
    return not (strided or is_pair_of_pairs(padding))


def as_padding(
    padding: Any, image: Sequence[int], kernel: Sequence[int], stride: Pair, dilation: Pair
) -> Padding:
    """Any form of padding as (top, bottom, left, right)."""
    if isinstance(padding, str):
        return named_padding(padding, image, kernel, stride, dilation)
    if is_pair_of_pairs(padding):
        (top, bottom), (left, right) = as_pair_of_pairs(padding)
        return top, bottom, left, right
    vertical, horizontal = as_pair("padding", padding, PADDING)
    return vertical, vertical, horizontal, horizontal


def named_padding(
    name: str, image: Sequence[int], kernel: Sequence[int], stride: Pair, dilation: Pair
) -> Padding:
    """'valid' pads nothing; 'same' makes the output ceil(image / stride)."""
    if name == "valid":
        return 0, 0, 0, 0
    if name != "same":
        raise RuntimeError(f"Invalid padding string: '{name}'")
    check_same_ranks(image, kernel)
    top, bottom = same_padding(image[-2], kernel[-2], stride[0], dilation[0])
    left, right = same_padding(image[-1], kernel[-1], stride[1], dilation[1])
    return top, bottom, left, right


def as_parameters(
    image: Sequence[int],
    kernel: Sequence[int],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
) -> Parameters:
    """The hyperparameters as the operators take them; only the last two sizes of each are read."""
    stride, dilation = as_pair("stride", stride), as_pair("dilation", dilation)
    padding = as_padding(padding, image, kernel, stride, dilation)
    return stride, padding, dilation, as_int("groups", groups, "an int", groups)


def as_size(name: str, size: Any) -> tuple[int, ...]:
    """A tensor's size as a plain tuple: autograd Functions take nothing else (no torch.Size)."""
    if not isinstance(size, (tuple, list)):
        raise TypeError(f"convgrad_ext: {name} must be a size, a tuple of ints, but got {size!r}")
    return tuple(as_int(name, extent, "a size, a tuple of ints", size) for extent in size)


def check_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"convgrad_ext: {name} must be a Tensor, but got {type(value).__name__}")
    if value.is_nested:  # other layouts are refused in csrc/ops.cpp; a nested one has no sizes
        raise NotImplementedError(
            f"convgrad_ext: {name} must be a dense tensor, but got a nested one"
        )


def check_same_ranks(image: Sequence[int], kernel: Sequence[int]) -> None:
    """The ranks, in the words that PyTorch has for them where padding='same'."""
    if len(kernel) not in (2, 4):
        image = image if len(image) == 4 else (1, *image)
        raise RuntimeError(
            f"Expected {len(kernel)}-dimensional input for {len(kernel)}-dimensional weight"
            f"{list(kernel)}, but got 4-dimensional input of size {list(image)} instead"
        )


def check_image_rank(size: Sequence[int]) -> None:
    if len(size) not in (3, 4):
        raise RuntimeError(
            f"Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: "
            f"{list(size)}"
        )


def check_weight_rank(size: Sequence[int]) -> None:
    if len(size) < 3:
        raise RuntimeError("weight should have at least three dimensions")
