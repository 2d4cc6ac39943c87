"""What is timed: the passes, each of which any implementation can be prepared for.

forward, grad_input and grad_weight are one operator call. The others go through autograd, as a
training step, a gradient penalty and differential privacy do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.func import grad, vmap

from benchmarks.implementations import Implementation
from benchmarks.layers import Layer
from benchmarks.operands import Operands

Results = tuple[Tensor, ...]
Run = Callable[[], Results]


@dataclass(frozen=True)
class Pass:
    prepare: Callable[[Implementation, Operands], Run]
    results: tuple[str, ...]  # what it returns
    work: int  # how often it has the work of a forward

    def reductions(self, layer: Layer) -> list[int]:
        """How many products the sums in each result have."""
        return [reduction_of(result, layer) for result in self.results]


def reduction_of(result: str, layer: Layer) -> int:
    taps = layer.K_h * layer.K_w
    return {
        "output": layer.C_in // layer.groups * taps,
        "grad_input": layer.C_out // layer.groups * taps,
        "grad_weight": layer.outputs_per_channel,
        "grad_bias": layer.outputs_per_channel,
    }[result]


def forward(implementation: Implementation, x: Operands) -> Run:
    return lambda: (implementation.forward(x),)


def grad_input(implementation: Implementation, x: Operands) -> Run:
    return lambda: (implementation.grad_input(x),)


def grad_weight(implementation: Implementation, x: Operands) -> Run:
    return lambda: (implementation.grad_weight(x),)


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().requires_grad_() for tensor in tensors]


def train_step(implementation: Implementation, x: Operands) -> Run:
    """Forward, then the gradients in input, weight and bias."""
    input, weight, bias = leaves(x.input, x.weight, x.bias)

    def run() -> Results:
        output = implementation.conv2d(x.layer, input, weight, bias)
        return torch.autograd.grad(output, (input, weight, bias), x.grad_output)

    return run


def double_backward(implementation: Implementation, x: Operands) -> Run:
    """A gradient penalty: grad_input, and then its own gradients in weight and grad_output."""
    input, weight, grad_output = leaves(x.input, x.weight, x.grad_output)

    def run() -> Results:
        output = implementation.conv2d(x.layer, input, weight, None)
        (penalised,) = torch.autograd.grad(output, input, grad_output, create_graph=True)
        return torch.autograd.grad(penalised, (weight, grad_output), x.direction)

    return run


def per_sample(implementation: Implementation, x: Operands) -> Run:
    """Differential privacy: the gradients in weight and bias of each image by itself."""
    conv2d = partial(implementation.conv2d, x.layer)

    def loss(weight: Tensor, bias: Tensor, image: Tensor, grad_output: Tensor) -> Tensor:
        return (conv2d(image[None], weight, bias)[0] * grad_output).sum()

    gradients = vmap(grad(loss, argnums=(0, 1)), in_dims=(None, None, 0, 0))
    return lambda: gradients(x.weight, x.bias, x.input, x.grad_output)


PASSES = {
    "forward": Pass(forward, ("output",), work=1),
    "grad_input": Pass(grad_input, ("grad_input",), work=1),
    "grad_weight": Pass(grad_weight, ("grad_weight",), work=1),
    "train_step": Pass(train_step, ("grad_input", "grad_weight", "grad_bias"), work=3),
    "double_backward": Pass(double_backward, ("grad_weight", "output"), work=4),
    "per_sample": Pass(per_sample, ("grad_weight", "grad_bias"), work=2),
}
SINGLE_PASSES = tuple(name for name, each in PASSES.items() if each.work == 1)
