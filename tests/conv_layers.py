"""Layers in pairs, torch.nn's and ours, and the comparison of their runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tolerance import assert_sums_equal
from torch import Tensor, nn

import convgrad_ext

IMAGES = (2, 4, 9, 8)

CONFIGURATIONS = [
    pytest.param({}, id="plain"),
    pytest.param({"kernel_size": (3, 2)}, id="kernel_differs_by_axis"),
    pytest.param({"kernel_size": [2, 3], "stride": [2, 1]}, id="lists"),
    pytest.param({"kernel_size": 1}, id="pointwise"),
    pytest.param({"stride": 2, "padding": 1}, id="strided"),
    pytest.param({"stride": (2, 3), "padding": (1, 0)}, id="parameters_differ_by_axis"),
    pytest.param({"padding": (1,), "stride": (2,), "dilation": (2,)}, id="tuples_of_one"),
    pytest.param({"dilation": 2, "padding": 2}, id="dilated"),
    pytest.param({"groups": 2}, id="grouped"),
    pytest.param({"groups": 4, "out_channels": 8}, id="depthwise_with_multiplier"),
    pytest.param({"bias": False}, id="no_bias"),
    pytest.param({"padding": "same"}, id="same"),
    pytest.param({"padding": "same", "dilation": (2, 1)}, id="same_dilated"),
    pytest.param({"padding": "same", "stride": [1, 1]}, id="same_with_stride_of_ones"),
    pytest.param({"padding": "valid", "stride": 2}, id="valid"),
    pytest.param({"padding": 2, "padding_mode": "reflect"}, id="reflect"),
    pytest.param({"padding": (1, 2), "padding_mode": "replicate", "stride": 2}, id="replicate"),
    pytest.param({"padding": (2, 1), "padding_mode": "circular", "groups": 2}, id="circular"),
    pytest.param(
        {"padding": [1, 2], "padding_mode": "circular", "bias": False}, id="circular_list"
    ),
    pytest.param({"padding": "same", "padding_mode": "reflect"}, id="reflect_same"),
    pytest.param(
        {"padding": "same", "padding_mode": "replicate", "kernel_size": (2, 4)},
        id="replicate_same_even_kernel",
    ),
    pytest.param(
        {"padding": "same", "padding_mode": "circular", "dilation": 2}, id="circular_same_dilated"
    ),
    pytest.param({"padding": "valid", "padding_mode": "reflect"}, id="reflect_valid"),
    pytest.param({"padding": 0, "padding_mode": "circular"}, id="circular_without_padding"),
]


def built(layer: type[nn.Module], **arguments: Any) -> Any:
    """A layer with the initial values of seed 0, in double precision."""
    torch.manual_seed(0)
    sizes = {"in_channels": 4, "out_channels": 6, "kernel_size": 3}
    return layer(**{**sizes, "dtype": torch.float64, **arguments})


def pair(**arguments: Any) -> tuple[nn.Conv2d, convgrad_ext.Conv2d]:
    return built(nn.Conv2d, **arguments), built(convgrad_ext.Conv2d, **arguments)


def images(*size: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size or IMAGES, dtype=torch.float64, generator=generator)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Equal up to the rounding of sums of a few hundred products."""
    assert_sums_equal(actual, expected, torch.full_like(expected, 1000), reduction=500)


def run(layer: nn.Module, input: Tensor) -> list[Tensor]:
    """The output and the gradients of input and parameters."""
    input = input.detach().requires_grad_()
    output = layer(input)
    generator = torch.Generator().manual_seed(2)
    cotangent = torch.randn(output.shape, dtype=output.dtype, generator=generator)
    leaves = [input, *layer.parameters()]
    return [output, *torch.autograd.grad(output, leaves, cotangent)]


def assert_same_run(ours: nn.Module, theirs: nn.Module, input: Tensor | None = None) -> None:
    input = images() if input is None else input
    for actual, expected in zip(run(ours, input), run(theirs, input), strict=True):
        assert_close(actual, expected)


MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "replicate",
    "circular": "circular",
}


def padded_first(layer: nn.Conv2d, sides: tuple[int, int, int, int], mode: str) -> nn.Module:
    """PyTorch's layer with the same parameters on an image padded by (left, right, top, bottom)."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = layer

        def forward(self, input: Tensor) -> Tensor:
            conv = self.conv
            image = F.pad(input, sides, mode=MODES[mode])
            return F.conv2d(image, conv.weight, conv.bias, conv.stride, 0, conv.dilation)

    return Padded()
