"""Conv2d and LazyConv2d: torch.nn's modules on this project's convolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convgrad_ext import scripting
from convgrad_ext.arguments import (
    IntOrPair,
    PaddingLike,
    as_pair,
    as_pair_of_pairs,
    as_parameters,
    torch_takes_padding,
)
from convgrad_ext.exporters import numbers_in_trace, warn_if_padding_is_fixed
from convgrad_ext.functional import conv2d
from convgrad_ext.padding import pad_circular


class Conv2d(nn.Conv2d):
    r"""Stands in for :class:`torch.nn.Conv2d`: same arguments, initial values, state and repr.

    It takes two forms of padding more: ``padding=((top, bottom), (left, right))``, and ``'same'``
    with any stride. With another ``padding_mode`` than ``'zeros'`` the image is padded first, as
    ``_reversed_padding_repeated_twice`` says: (left, right, top, bottom), which is filled from
    padding at construction and may be changed later, as libraries do. With ``'same'`` and a stride
    it is filled for images whose extents are multiples of the stride; until it is changed, images
    of other extents are padded as ``'same'`` asks for them.

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

    # Where unchanged sides mean 'same' of each image. Converted layers and older files have it not.
    # torch.jit.script reads the annotations of a class, and knows no such type: hence the cast.
    _sides_of_strided_same = cast("tuple[int, ...] | None", None)

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
            self._take_padding_beyond_torch(padding)

    def _take_padding_beyond_torch(self, padding: Any) -> None:
        if isinstance(padding, str):
            least_multiple = as_pair("stride", self.stride)
            sides = self._sides_of_same(least_multiple)
            self._sides_of_strided_same = tuple(sides)
            self.padding: Any = padding
        else:
            (top, bottom), (left, right) = self.padding = as_pair_of_pairs(padding)
            sides = [left, right, top, bottom]
        self._reversed_padding_repeated_twice: Any = sides

    def forward(self, input: Tensor) -> Tensor:
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self._scripted_forward(input)
        else:  # noqa: RET505  torch.jit.script leaves a branch out, not what follows one
            return self._conv_forward(input, self.weight, self.bias)

    def _scripted_forward(self, input: Tensor) -> Tensor:
        """What torch.jit.script makes of forward."""
        sides = self._scripted_sides([input.shape[-2], input.shape[-1]])
        padding = [sides[2], sides[3], sides[0], sides[1]]
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, sides, mode=self.padding_mode), [0, 0, 0, 0]
        stride = [self.stride[0], self.stride[-1]]
        dilation = [self.dilation[0], self.dilation[-1]]
        return scripting.conv2d(
            input, self.weight, self.bias, stride, padding, dilation, self.groups
        )

    def _scripted_sides(self, image: list[int]) -> list[int]:
        """(left, right, top, bottom). The type of self.padding decides which lines are compiled."""
        padding = self.padding
        if isinstance(padding, str):
            named = self._scripted_named_sides(image)
            changed = self._reversed_padding_repeated_twice
            if self.padding_mode != "zeros" and changed != self._scripted_named_sides(
                list(self.stride)
            ):
                return changed
            return named
        if self.padding_mode != "zeros":
            return self._reversed_padding_repeated_twice
        if isinstance(padding[0], int):
            return [padding[-1], padding[-1], padding[0], padding[0]]
        return [padding[1][0], padding[1][1], padding[0][0], padding[0][1]]

    def _scripted_named_sides(self, image: list[int]) -> list[int]:
        if self.padding == "valid":
            return [0, 0, 0, 0]
        kernel, stride, dilation = self.kernel_size, self.stride, self.dilation
        top, bottom = scripting.same_padding(image[0], kernel[0], stride[0], dilation[0])
        left, right = scripting.same_padding(image[-1], kernel[-1], stride[-1], dilation[-1])
        return [left, right, top, bottom]

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input, padding = self._padded(input), 0
        return conv2d(input, weight, bias, self.stride, padding, self.dilation, self.groups)

    def _padded(self, input: Tensor) -> Tensor:
        sides = self._reversed_padding_repeated_twice
        if self._sides_of_strided_same != tuple(sides):
            return F.pad(input, sides, mode=self.padding_mode)
        warn_if_padding_is_fixed("same", self.stride)
        sides = self._sides_of_same(*numbers_in_trace(input.shape))
        if self.padding_mode == "circular":
            return pad_circular(input, sides)  # they depend on the image, and may be symbols
        return F.pad(input, sides, mode=self.padding_mode)

    def _sides_of_same(self, image: Sequence[int]) -> list[int]:
        """padding='same' of an image of this size, in the order of torch.nn.functional.pad."""
        _, (top, bottom, left, right), _, _ = as_parameters(
            image, self.kernel_size, self.stride, "same", self.dilation, self.groups
        )
        return [left, right, top, bottom]


class LazyConv2d(nn.LazyConv2d, Conv2d):  # type: ignore[misc]
    """A :class:`Conv2d` that learns in_channels from its first input, or from a loaded weight.

    Shapes, attributes, errors: as :class:`Conv2d`, which it becomes with its first call.

    Example:
        >>> import torch, convgrad_ext
        >>> layer = convgrad_ext.LazyConv2d(8, kernel_size=3)
        >>> layer(torch.zeros(1, 5, 9, 9)).shape, type(layer).__name__, layer.in_channels
        (torch.Size([1, 8, 7, 7]), 'Conv2d', 5)

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyConv2d.html
    """

    cls_to_become = Conv2d

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """As torch's, which gives the weight its size but leaves in_channels at 0."""
        super()._load_from_state_dict(*args, **kwargs)
        loaded = not self.has_uninitialized_params() and self.weight.dim() == 4
        if loaded and self.in_channels == 0:
            self.in_channels = self.weight.shape[1] * self.groups
