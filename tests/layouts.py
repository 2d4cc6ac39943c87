"""Tensors of every order in memory, and the gradients that belong to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from tolerance import assert_sums_equal
from torch import Tensor

RAW = torch.ops.convgrad_ext
LAST = torch.channels_last
Size = tuple[int, ...]
Layout = Callable[[Tensor], Tensor]


def random(*size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, dtype=torch.float64, generator=generator)


def permuted(order: Size) -> Layout:
    """The same values; the dimensions are stored in this order, the outermost first."""
    inverse = [order.index(d) for d in range(4)]
    return lambda t: t.permute(order).contiguous().permute(inverse)


# Without gaps in memory, in any order
DENSE: dict[str, Layout] = {
    "contiguous": Tensor.contiguous,
    "channels_last": lambda t: t.contiguous(memory_format=LAST),
    "images_innermost": permuted((1, 2, 3, 0)),
    "rows_outermost": permuted((2, 0, 3, 1)),
}
WITH_GAPS: dict[str, Layout] = {
    "columns_cut_off": lambda t: F.pad(t, (0, 1))[..., :-1],
    "every_other_channel": lambda t: torch.stack([t, t], dim=2).flatten(1, 2)[:, ::2],
    "rows_expanded": lambda t: t[:, :, :1].expand_as(t),
}

# (input size, weight size, parameters); many of them are the same memory in both formats
SHAPES: dict[str, tuple[Size, Size, dict[str, Any]]] = {
    "dense": ((2, 4, 6, 5), (8, 4, 3, 2), {"padding": 1}),
    "strided": ((2, 4, 7, 6), (6, 4, 3, 3), {"stride": 2, "padding": 1}),
    "patches": ((2, 4, 6, 8), (16, 4, 3, 2), {"stride": (3, 2)}),
    "pointwise": ((2, 4, 6, 5), (8, 4, 1, 1), {}),
    "depthwise": ((2, 4, 6, 5), (4, 1, 3, 3), {"padding": 1, "groups": 4}),
    "one_channel": ((2, 1, 6, 5), (8, 1, 3, 3), {}),
    "one_filter": ((2, 4, 6, 5), (1, 4, 3, 3), {}),
    "one_pixel": ((3, 4, 1, 1), (8, 4, 3, 3), {"padding": 1}),
    "one_image": ((1, 4, 6, 5), (8, 4, 3, 3), {}),
    "one_row": ((2, 4, 1, 9), (8, 4, 1, 3), {}),
    "one_of_everything": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
}


def contiguous_strides(size: Size) -> Size:
    return torch.empty(size, device="meta").stride()


def leaves_of(shape: str, input_layout: Layout, weight_layout: Layout) -> tuple[Tensor, Tensor]:
    input_size, weight_size, _ = SHAPES[shape]
    input, weight = input_layout(random(*input_size)), weight_layout(random(*weight_size, seed=1))
    return input.requires_grad_(), weight.requires_grad_()


def gradients(conv: Callable[..., Tensor], input: Tensor, weight: Tensor, **params: Any) -> Any:
    """Of input and weight, as the backward returns them, without AccumulateGrad."""
    output = conv(input, weight, **params)
    return torch.autograd.grad(output, (input, weight), random(*output.shape, seed=2))


def assert_gradients_are_torchs(actual: Any, input: Tensor, weight: Tensor, **params: Any) -> None:
    plain = [t.detach().contiguous().requires_grad_() for t in (input, weight)]
    for ours, theirs in zip(actual, gradients(F.conv2d, *plain, **params), strict=True):
        assert_sums_equal(ours, theirs, torch.full_like(theirs, 1000), reduction=500)


PARAMS = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
