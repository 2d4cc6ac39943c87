"""Tensors with offsets beyond 32 bits, in elements and so in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import pytest
import torch
from expected import torch_gradients
from torch import Tensor

import convgrad_ext
from convgrad_ext.cases import Case

pytestmark = pytest.mark.slow

BEYOND = 2**31
DIMENSIONS = {"image": 0, "channel": 1, "row": 2, "column": 3}
CASES = [
    Case("padded", "borders and interior", channels=(5, 7), image=(9, 8), kernel=(3, 3), padding=1),
    Case("strided", "phases", channels=(5, 7), image=(9, 8), kernel=(3, 3), padding=1, stride=2),
    Case("wide_kernel", "tiles sum along taps", channels=(2, 7), image=(9, 8), kernel=(3, 5)),
]


def small_numbers(size: Sequence[int], seed: int) -> Tensor:
    """Whole ones, whose sums are exact in any order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, tuple(size), generator=generator).float()


def spread(tensor: Tensor, dimension: int) -> Tensor:
    """The same values, the last of a dimension more than 2^31 elements behind the first.

    The elements between are never touched, and take addresses but no memory.
    """
    steps = tensor.shape[dimension] - 1
    strides = list(tensor.stride())
    strides[dimension] = ceil(BEYOND / steps) + tensor.numel()
    storage = torch.empty(strides[dimension] * steps + tensor.numel())
    far = storage.as_strided(tensor.shape, strides)
    return far.copy_(tensor)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("dimension", DIMENSIONS.values(), ids=DIMENSIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_operands_whose_elements_lie_far_apart(case: Case, dimension: int) -> None:
    """Each operand of each pass alone, against PyTorch on the same values without gaps."""
    input, weight = small_numbers(case.input_size, 0), small_numbers(case.weight_size, 1)
    output = case.torch_conv2d(input, weight)
    grad_output = small_numbers(output.shape, 2)
    grad_input, grad_weight = torch_gradients(case, input, weight, grad_output=grad_output)

    sizes, params = (case.input_size, case.weight_size), case.params
    far = spread(input, dimension)
    assert torch.equal(convgrad_ext.conv2d(far, weight, **params), output)
    assert torch.equal(
        convgrad_ext.conv2d_weight(far, sizes[1], grad_output, **params), grad_weight
    )
    far = spread(weight, dimension)
    assert torch.equal(convgrad_ext.conv2d(input, far, **params), output)
    assert torch.equal(convgrad_ext.conv2d_input(sizes[0], far, grad_output, **params), grad_input)
    far = spread(grad_output, dimension)
    assert torch.equal(convgrad_ext.conv2d_input(sizes[0], weight, far, **params), grad_input)
    assert torch.equal(convgrad_ext.conv2d_weight(input, sizes[1], far, **params), grad_weight)


def skip_unless_available(gibibytes: int) -> None:
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.exists() else []
    available = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    if sum(available) < gibibytes << 20:
        pytest.skip(f"less than {gibibytes} GiB of memory is available")


# One pixel against each of many channels: an element of the result is one product.
PIXELS, CHANNELS = (64, 64), BEYOND // 64**2 + 1


def test_an_output_of_more_than_2_to_the_31_elements() -> None:
    skip_unless_available(12)
    image, weight = small_numbers((1, 1, *PIXELS), 0), small_numbers((CHANNELS, 1, 1, 1), 1)
    output = convgrad_ext.conv2d(image, weight)
    assert output.numel() > BEYOND
    for channel in (0, CHANNELS // 2, CHANNELS - 1):
        assert torch.equal(output[0, channel], image[0, 0] * weight[channel, 0])


def test_a_grad_input_of_more_than_2_to_the_31_elements() -> None:
    skip_unless_available(12)
    grad_output, weight = small_numbers((1, 1, *PIXELS), 0), small_numbers((1, CHANNELS, 1, 1), 1)
    grad_input = convgrad_ext.conv2d_input((1, CHANNELS, *PIXELS), weight, grad_output)
    assert grad_input.numel() > BEYOND
    for channel in (0, CHANNELS // 2, CHANNELS - 1):
        assert torch.equal(grad_input[0, channel], grad_output[0, 0] * weight[0, channel])


def test_a_grad_weight_of_more_than_2_to_the_31_bytes() -> None:
    """In elements it would take twice the memory, because the sums are as large as the result."""
    skip_unless_available(8)
    C_in, C_out = 2**14, 2**15 + 1
    input, grad_output = small_numbers((1, C_in, 1, 1), 0), small_numbers((1, C_out, 1, 1), 1)
    grad_weight = convgrad_ext.conv2d_weight(input, (C_out, C_in, 1, 1), grad_output)
    assert 4 * grad_weight.numel() > BEYOND
    for channel in (0, C_out // 2, C_out - 1):
        assert torch.equal(grad_weight[channel], input[0] * grad_output[0, channel])
