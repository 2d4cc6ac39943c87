"""Named convolutions, small enough for gradcheck, one for each hazard.

The tests and ``python -m convgrad_ext check`` run them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convgrad_ext.arguments import torch_takes_padding


@dataclass(frozen=True)
class Case:
    """One convolution; `image` is (H_in, W_in), `channels` is (C_in, C_out)."""

    name: str
    reason: str
    N: int = 2
    channels: tuple[int, int] = (2, 3)
    image: tuple[int, int] = (5, 4)
    kernel: tuple[int, int] = (3, 2)
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    same: tuple[int, int, int, int] | None = None  # the sides of padding='same', by hand

    @property
    def input_size(self) -> tuple[int, int, int, int]:
        return (self.N, self.channels[0], *self.image)

    @property
    def weight_size(self) -> tuple[int, int, int, int]:
        C_in, C_out = self.channels
        return (C_out, C_in // self.groups, *self.kernel)

    @property
    def params(self) -> dict[str, Any]:
        """The keyword arguments of conv2d."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def in_torch(self) -> bool:
        """Whether torch.nn.functional.conv2d takes this form of padding."""
        return torch_takes_padding(self.padding, self.stride)

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) of any form of padding."""
        if self.padding == "same" and self.same is not None:
            return self.same
        if self.padding == "valid":
            return (0, 0, 0, 0)
        pair = (self.padding,) * 2 if isinstance(self.padding, int) else self.padding
        (top, bottom), (left, right) = ((p, p) if isinstance(p, int) else p for p in pair)
        return (top, bottom, left, right)

    def torch_conv2d(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """PyTorch's convolution of the padded image, which takes every form of padding."""
        top, bottom, left, right = self.sides
        padded = F.pad(input, (left, right, top, bottom))
        return F.conv2d(padded, weight, bias, self.stride, 0, self.dilation, self.groups)

    def tensors(self, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Random input, weight and bias."""
        generator = torch.Generator().manual_seed(seed)
        sizes = (self.input_size, self.weight_size, self.weight_size[:1])
        input, weight, bias = (
            torch.randn(size, dtype=dtype, generator=generator) for size in sizes
        )
        return input, weight, bias

    def __str__(self) -> str:
        return self.name


CASES = (
    Case("plain", "the formula with nothing added"),
    Case("single_pixel", "every extent is 1", image=(1, 1), kernel=(1, 1)),
    Case("pointwise", "1x1: no neighbours, a matrix product", kernel=(1, 1)),
    Case("kernel_covers_input", "one output; grad_weight is the image itself", kernel=(5, 4)),
    Case("padded", "border taps meet padding", padding=1),
    Case("padding_differs_by_axis", "height and width are not swapped", padding=(2, 1)),
    Case(
        "padding_reaches_kernel", "the first output reads padding alone", kernel=(2, 2), padding=2
    ),
    Case("padding_exceeds_kernel", "outputs without a single tap", kernel=(2, 1), padding=(4, 3)),
    Case("strided", "grad_input has two phases an axis", stride=2, padding=1),
    Case("stride_differs_by_axis", "height and width are not swapped", stride=(2, 3), padding=1),
    Case("stride_exceeds_kernel", "inputs that no output reads", kernel=(2, 1), stride=3),
    Case(
        "leftover_input_rows_and_columns",
        "the last stride does not fit: trailing inputs get zero gradient",
        image=(6, 7),
        kernel=(3, 3),
        stride=(2, 3),
    ),
    Case("dilated", "taps are not neighbours", image=(7, 6), dilation=2, padding=1),
    Case(
        "dilation_differs_by_axis", "height and width are not swapped", dilation=(2, 3), padding=2
    ),
    Case(
        "dilation_jumps_over_the_image",
        "outer taps only ever meet padding",
        image=(3, 3),
        kernel=(3, 3),
        dilation=4,
        padding=4,
    ),
    Case(
        "stride_and_dilation_coprime",
        "each phase of grad_input has taps",
        image=(8, 7),
        stride=2,
        dilation=3,
        padding=3,
    ),
    Case(
        "stride_and_dilation_share_factor",
        "every other phase of grad_input has no tap",
        image=(9, 8),
        stride=4,
        dilation=2,
        padding=2,
    ),
    Case("stride_equals_dilation", "one phase in three has taps", stride=3, dilation=3, padding=3),
    Case("grouped", "groups do not mix", channels=(4, 6), groups=2, padding=1),
    Case("depthwise", "one channel a group", channels=(3, 3), groups=3, padding=1, stride=2),
    Case("depthwise_with_multiplier", "two outputs per channel", channels=(2, 4), groups=2),
    Case("one_channel_in", "first layers have few channels", channels=(1, 4), padding=1),
    Case("one_channel_out", "last layers have few channels", channels=(3, 1), padding=1),
    Case("one_image", "a batch of one", N=1, padding=1),
    Case("wide_kernel", "1xK kernels", kernel=(1, 4), padding=(0, 2)),
    Case("tall_kernel", "Kx1 kernels", kernel=(4, 1), padding=(2, 0)),
    Case(
        "same",
        "padding='same' with an odd span",
        kernel=(3, 3),
        padding="same",
        same=(1, 1, 1, 1),
    ),
    Case(
        "same_dilated",
        "padding='same' with dilation",
        kernel=(3, 3),
        dilation=2,
        padding="same",
        same=(2, 2, 2, 2),
    ),
    Case("valid", "padding by name", padding="valid", stride=2),
    Case(
        "same_strided",
        "output ceil(H/stride), 3x2 of 5x4",
        kernel=(3, 3),
        stride=2,
        padding="same",
        same=(1, 1, 0, 1),
    ),
    Case(
        "same_even_kernel",
        "the odd pixel goes to the far side",
        kernel=(2, 4),
        stride=(1, 3),
        padding="same",
        same=(0, 1, 1, 2),
    ),
    Case("asymmetric", "near and far side differ", padding=((2, 0), (0, 1)), stride=2),
    Case("asymmetric_far_only", "causal in reverse", padding=((0, 2), (0, 1))),
)
