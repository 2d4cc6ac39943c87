"""Conv2d and LazyConv2d: torch.nn's modules on this project's convolution."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from convgrad_ext.arguments import (
    IntOrPair,
    PaddingLike,
    as_pair_of_pairs,
    as_parameters,
    torch_takes_padding,
)
from convgrad_ext.functional import conv2d


class Conv2d(nn.Conv2d):
    r"""Stands in for :class:`torch.nn.Conv2d`: same arguments, initial values, state and repr.

    It takes two forms of padding more: ``padding=((top, bottom), (left, right))``, and ``'same'``
    with any stride. With another ``padding_mode`` than ``'zeros'`` the image is padded first.

    Shapes:
        input (N, C_in, H_in, W_in) or (C_in, H_in, W_in); output (N, C_out, H_out, W_out) or
        (C_out, H_out, W_out), with the extents of :func:`convgrad_ext.conv2d`.

    Attributes:
        weight: (C_out, C_in // groups, K_h, K_w), uniform in +-1/sqrt(C_in // groups * K_h * K_w).
        bias: (C_out,), from the same interval, or None.

    Raises:
        ValueError: as ``torch.nn.Conv2d``: "in_channels must be divisible by groups".
        TypeError: "convgrad_ext: padding must be an int, (vertical, horizontal), ((top, bottom),
            (left, right)), 'same' or 'valid', but got ((1, 2), (0.5, 1))".

    Example:
        >>> import torch, convgrad_ext
        >>> layer = convgrad_ext.Conv2d(3, 8, kernel_size=3, stride=2, padding="same")
        >>> layer(torch.zeros(1, 3, 15, 15)).shape
        torch.Size([1, 8, 8, 8])
        >>> layer
        Conv2d(3, 8, kernel_size=(3, 3), stride=(2, 2), padding=same)

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: PaddingLike = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        beyond_torch = not torch_takes_padding(padding, stride)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,  # type: ignore[arg-type]
            stride,  # type: ignore[arg-type]
            0 if beyond_torch else padding,  # type: ignore[arg-type]
            dilation,  # type: ignore[arg-type]
            groups,
            bias,
            padding_mode,  # type: ignore[arg-type]
            device,
            dtype,
        )
        if beyond_torch:
            named = isinstance(padding, str)
            self.padding: Any = padding if named else as_pair_of_pairs(padding)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._image_padding(input), mode=self.padding_mode)
            padding = 0
        return conv2d(input, weight, bias, self.stride, padding, self.dilation, self.groups)

    def _image_padding(self, input: Tensor) -> list[int]:
        """The padding as torch.nn.functional.pad takes it: (left, right, top, bottom)."""
        _, (top, bottom, left, right), _, _ = as_parameters(
            input.shape, self.kernel_size, self.stride, self.padding, self.dilation, self.groups
        )
        return [left, right, top, bottom]


class LazyConv2d(nn.LazyConv2d, Conv2d):  # type: ignore[misc]
    """A :class:`Conv2d` that learns in_channels from its first input.

    Shapes, attributes, errors: as :class:`Conv2d`, which it becomes with its first call.

    Example:
        >>> import torch, convgrad_ext
        >>> layer = convgrad_ext.LazyConv2d(8, kernel_size=3)
        >>> layer(torch.zeros(1, 5, 9, 9)).shape, type(layer).__name__, layer.in_channels
        (torch.Size([1, 8, 7, 7]), 'Conv2d', 5)

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyConv2d.html
    """

    cls_to_become = Conv2d
