"""The right results of the passes, from PyTorch's own convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convgrad_ext.cases import Case


def torch_gradients(case: Case, *tensors: Tensor, grad_output: Tensor) -> tuple[Any, ...]:
    """The gradients of Case.torch_conv2d in input, weight and bias."""
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    return torch.autograd.grad(case.torch_conv2d(*leaves), leaves, grad_output)


def output_like(case: Case, *tensors: Tensor, seed: int = 1) -> Tensor:
    """A random grad_output."""
    output = case.torch_conv2d(*(t.detach() for t in tensors))
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(output.shape, dtype=output.dtype, generator=generator)
