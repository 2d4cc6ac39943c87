"""The sides of every comparison: our kernels, and what they are held against.

A side gives the three passes as one operator call each, the level at which autograd calls them, and
a conv2d that can be differentiated, for the passes that go through autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import convgrad_ext
from benchmarks.kernel_names import plain
from benchmarks.layers import Layer
from benchmarks.operands import Operands
from benchmarks.verification import WINOGRAD_GROWTH
from convgrad_ext import _C

ours = torch.ops.convgrad_ext
aten = torch.ops.aten


Pass = Callable[[Operands], Tensor]


@dataclass(frozen=True)
class Implementation:
    name: str
    forward: Pass
    grad_input: Pass
    grad_weight: Pass
    conv2d: Callable[[Layer, Tensor, Tensor, Tensor | None], Tensor]
    backend: Callable[[Operands, bool], str]  # what will run; the bool: for gradients as well
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext  # it runs inside of one
    growth: float = 1.0  # how much larger its sums are on the way: verification.py


def kernel(name: str) -> Implementation:
    """One of our kernels on the CPU, with or without Winograd whatever the environment allows."""
    isa = next(each["isa"] for each in _C.kernels() if each["name"] == plain(name))
    winograd = name != plain(name)
    scope = partial(on_kernel, plain(name), winograd)
    growth = WINOGRAD_GROWTH if winograd else 1.0
    return Implementation(name, *OURS, lambda x, gradients: isa, scope, growth)


@contextmanager
def on_kernel(name: str, winograd: bool) -> Iterator[None]:
    with convgrad_ext.use_kernel(name), convgrad_ext.allow_winograd(winograd):
        yield


def device_kernel(name: str) -> Implementation:
    """The kernels of another device, which come without a choice."""
    return Implementation(name, *OURS, lambda x, gradients: name)


def baselines(library: Any) -> dict[str, Implementation]:
    """What to compare with; `library` is the one that PyTorch can be asked to do without."""
    return {
        "conv2d": Implementation("conv2d", *TORCHS, torch_backend),
        "aten": Implementation("aten", *TORCHS, torch_backend, partial(without, library)),
        "unfold": Implementation("unfold", *BY_HAND, lambda x, gradients: "unfold + matmul"),
    }


@contextmanager
def without(library: Any) -> Iterator[None]:
    """As library.flags(enabled=False), which would also reset its other flags, TF32 among them."""
    before = library.enabled
    library.enabled = False
    try:
        yield
    finally:
        library.enabled = before


def our_parameters(layer: Layer) -> tuple[Any, ...]:
    vertical, horizontal = layer.padding_h, layer.padding_w
    padding = (vertical, vertical, horizontal, horizontal)
    return (layer.stride,) * 2, padding, (layer.dilation,) * 2, layer.groups


def our_forward(x: Operands) -> Tensor:
    return ours.conv2d(x.input, x.weight, None, *our_parameters(x.layer))


def our_grad_input(x: Operands) -> Tensor:
    params = our_parameters(x.layer)
    return ours.conv2d_input(x.layer.input_size, x.weight, x.grad_output, *params)


def our_grad_weight(x: Operands) -> Tensor:
    params = our_parameters(x.layer)
    return ours.conv2d_weight(x.input, x.layer.weight_size, x.grad_output, *params)


def our_conv2d(layer: Layer, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return convgrad_ext.conv2d(input, weight, bias, *torch_parameters(layer))


def torch_parameters(layer: Layer) -> tuple[Any, ...]:
    padding = (layer.padding_h, layer.padding_w)
    return (layer.stride,) * 2, padding, (layer.dilation,) * 2, layer.groups


def torch_forward(x: Operands) -> Tensor:
    return torch_conv2d(x.layer, x.input, x.weight, None)


def torch_grad_input(x: Operands) -> Tensor:
    return torch_gradient(x, wanted=0)


def torch_grad_weight(x: Operands) -> Tensor:
    return torch_gradient(x, wanted=1)


def torch_gradient(x: Operands, wanted: int) -> Tensor:
    """What autograd calls, for one alone of the gradients in (input, weight, bias)."""
    stride, padding, dilation, groups = torch_parameters(x.layer)
    mask = [which == wanted for which in range(3)]
    params = stride, padding, dilation, False, (0, 0), groups, mask
    return aten.convolution_backward(x.grad_output, x.input, x.weight, None, *params)[wanted]


def torch_conv2d(layer: Layer, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(input, weight, bias, *torch_parameters(layer))


def torch_backend(x: Operands, gradients: bool) -> str:
    """The name of the code that PyTorch picks for these operands."""
    stride, padding, dilation, groups = torch_parameters(x.layer)
    input, weight = (tensor.detach().requires_grad_(gradients) for tensor in (x.input, x.weight))
    params = stride, padding, dilation, False, (0, 0), groups
    return str(torch._C._select_conv_backend(input, weight, None, *params).name)


def columns_of(layer: Layer, input: Tensor) -> Tensor:
    """(N, groups, C_in/groups * K_h*K_w, H_out*W_out): all that each output meets, written out."""
    stride, padding, dilation, groups = torch_parameters(layer)
    columns = F.unfold(input, layer.weight_size[2:], dilation, padding, stride)
    return columns.unflatten(1, (groups, -1))


def by_group(layer: Layer, x: Tensor, axis: int) -> Tensor:
    """The channels of an axis as (groups, channels of a group), all that follows as one axis."""
    return x.flatten(axis + 1).unflatten(axis, (layer.groups, -1))


def unfold_conv2d(layer: Layer, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    output = by_group(layer, weight, 0) @ columns_of(layer, input)
    output = output.reshape(-1, *layer.output_size[1:])
    return output if bias is None else output + bias[:, None, None]


def unfold_forward(x: Operands) -> Tensor:
    return unfold_conv2d(x.layer, x.input, x.weight, None)


def unfold_grad_input(x: Operands) -> Tensor:
    stride, padding, dilation, _ = torch_parameters(x.layer)
    weight = by_group(x.layer, x.weight, 0)
    columns = (weight.mT @ by_group(x.layer, x.grad_output, 1)).flatten(1, 2)
    image, window = x.layer.input_size[2:], x.layer.weight_size[2:]
    return F.fold(columns, image, window, dilation, padding, stride)


def unfold_grad_weight(x: Operands) -> Tensor:
    columns = columns_of(x.layer, x.input)
    per_image = by_group(x.layer, x.grad_output, 1) @ columns.mT
    return per_image.sum(0).reshape(x.layer.weight_size)


OURS = our_forward, our_grad_input, our_grad_weight, our_conv2d
TORCHS = torch_forward, torch_grad_input, torch_grad_weight, torch_conv2d
BY_HAND = unfold_forward, unfold_grad_input, unfold_grad_weight, unfold_conv2d
