"""What the passes should give, from PyTorch's own convolution."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convgrad_ext.cases import Case


def padding_of(case: Case) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of any form of padding; 'same' after TensorFlow's definition."""
    if case.padding == "same":
        strides = (case.stride,) * 2 if isinstance(case.stride, int) else case.stride
        dilations = (case.dilation,) * 2 if isinstance(case.dilation, int) else case.dilation
        sides = []
        for i, k, s, d in zip(case.image, case.kernel, strides, dilations, strict=True):
            outputs = -(-i // s)
            total = max((outputs - 1) * s + (k - 1) * d + 1 - i, 0)
            sides += [total // 2, total - total // 2]
        return tuple(sides)
    if case.padding == "valid":
        return (0, 0, 0, 0)
    if isinstance(case.padding, int):
        return (case.padding,) * 4
    first, second = case.padding
    if isinstance(first, int):
        return (first, first, second, second)
    return (*first, *second)


def torch_conv2d(case: Case, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.conv2d on an image that was padded beforehand, so that every form of padding has a value."""
    top, bottom, left, right = padding_of(case)
    padded = F.pad(input, (left, right, top, bottom))
    return F.conv2d(padded, weight, bias, case.stride, 0, case.dilation, case.groups)


def torch_gradients(case: Case, *tensors: Tensor, grad_output: Tensor) -> tuple[Any, ...]:
    """The gradients of torch_conv2d in input, weight and bias."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    return torch.autograd.grad(torch_conv2d(case, *leaves), leaves, grad_output)


def output_like(case: Case, *tensors: Tensor, seed: int = 1) -> Tensor:
    """A random grad_output."""
    output = torch_conv2d(case, *(t.detach() for t in tensors))
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(output.shape, dtype=output.dtype, generator=generator)
