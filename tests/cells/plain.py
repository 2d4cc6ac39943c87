"""The convolution that the cells expect: a sum over taps, made of slices and einsum."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

PARAMS: dict[str, Any] = {"stride": 2, "padding": (1, 0), "dilation": (1, 2), "groups": 2}


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """output[o] = sum over taps k of weight[k] * input[o*stride - padding + k*dilation]."""
    vertical, horizontal = pair(padding)
    padded = F.pad(input, (horizontal, horizontal, vertical, vertical)).unflatten(1, (groups, -1))
    filters = weight.unflatten(0, (groups, -1))
    steps, gaps, kernel = pair(stride), pair(dilation), weight.shape[2:]
    extents = [
        (i - d * (k - 1) - 1) // s + 1
        for i, s, d, k in zip(padded.shape[3:], steps, gaps, kernel, strict=True)
    ]
    output: Any = 0
    for k_h in range(kernel[0]):
        for k_w in range(kernel[1]):
            rows, columns = (
                slice(k * d, k * d + (o - 1) * s + 1, s)
                for k, d, o, s in zip((k_h, k_w), gaps, extents, steps, strict=True)
            )
            seen = padded[..., rows, columns]
            output = output + torch.einsum("ngchw,gkc->ngkhw", seen, filters[..., k_h, k_w])
    output = output.flatten(1, 2)
    return output if bias is None else output + bias[:, None, None]


def operands(*batch: int, small: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weight and bias that go with PARAMS, batched if asked."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((1, 2, 4, 3), (2, 1, 2, 2), (2,)) if small else ((2, 4, 5, 6), (6, 2, 3, 2), (6,))
    input, weight, bias = (
        torch.randn(*batch, *size, dtype=torch.float64, generator=generator) for size in sizes
    )
    return input, weight, bias


def leaves_of(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Fresh copies that want gradients."""
    return tuple(t.detach().clone().requires_grad_() for t in tensors)


def loss_of(conv: Any) -> Any:
    """A loss whose derivatives vanish at no order that is looked at here."""
    return lambda input, weight, bias: (conv(input, weight, bias, **PARAMS) ** 3).sum()


def gradients_of(conv: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the loss, by a plain backward pass."""
    leaves = leaves_of(*tensors)
    return torch.autograd.grad(loss_of(conv)(*leaves), leaves)


def assert_same(actual: Any, expected: Any, rtol: float = 1e-10) -> None:
    """Equal to float64 precision, and not all zero: a dropped derivative would be."""
    for a, e in zip(tree_leaves(actual), tree_leaves(expected), strict=True):
        a, e = a.detach(), e.detach()
        assert e.abs().max() > 0
        torch.testing.assert_close(a, e, rtol=rtol, atol=rtol * float(e.abs().max()))


def assert_raises(error: type[Exception], text: str, function: Any, *args: Any) -> None:
    """The call is refused, with this text in the message."""
    try:
        function(*args)
    except error as refusal:
        message = str(refusal)
    else:
        raise AssertionError("the call was accepted")
    assert text in message, message
