"""The sides of every comparison: our kernels and PyTorch's convolutions; peers.py has others.

forward, grad_input and grad_weight are one operator call, as autograd makes it. The other passes go
through autograd, as a training step, a gradient penalty and differential privacy do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

import convgrad_ext
from benchmarks.layers import TINY, Form, Layer, Operands, make_operands
from benchmarks.verify import WINOGRAD_GROWTH
from convgrad_ext import _C

WINOGRAD = "+winograd"  # behind the name of a kernel that may use it where it gains by it
BASELINES = ("conv2d", "aten")
AGAINST_ITSELF = "conv2d"  # a baseline in a kernel's place shows the error of the instrument itself

Results = tuple[Tensor, ...]
Run = Callable[[], Any]
Conv2d = Callable[[Layer, Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Pass:
    results: tuple[str, ...]
    work: int  # in units of a forward
    parts: tuple[str, ...]  # the passes of which it is made

    def reductions(self, layer: Layer) -> list[int]:
        """How many products the sums in each result have."""
        return [reduction_of(result, layer) for result in self.results]


SINGLE_PASSES = ("forward", "grad_input", "grad_weight")
PASSES = {
    "forward": Pass(("output",), 1, ("forward",)),
    "grad_input": Pass(("grad_input",), 1, ("grad_input",)),
    "grad_weight": Pass(("grad_weight",), 1, ("grad_weight",)),
    "train_step": Pass(("grad_input", "grad_weight", "grad_bias"), 3, SINGLE_PASSES),
    "double_backward": Pass(("grad_weight", "output"), 4, SINGLE_PASSES),
    "per_sample": Pass(("grad_weight", "grad_bias"), 2, ("forward", "grad_weight")),
}


def reduction_of(result: str, layer: Layer) -> int:
    taps = layer.K_h * layer.K_w
    return {
        "output": layer.C_in // layer.groups * taps,
        "grad_input": layer.C_out // layer.groups * taps,
        "grad_weight": layer.outputs_per_channel,
        "grad_bias": layer.outputs_per_channel,
    }[result]


@dataclass(frozen=True)
class Side:
    """One of the things that are timed against each other."""

    run: Run
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext  # it runs inside of one
    tensors: Callable[[Any], Results] = tuple  # the results of run, for PyTorch

    def results(self) -> Results:
        with self.scope():
            return self.tensors(self.run())


@dataclass(frozen=True)
class Job:
    """One side of one row, in a form that can be sent to another process."""

    layer: Layer
    pass_name: str
    name: str  # of a kernel or a baseline
    form: Form
    threads: int

    def tiny(self) -> Job:
        return replace(self, layer=TINY)

    def side(self, operands: Operands | None = None) -> Side:
        operands = operands or make_operands(self.layer, self.form)
        implementation = implementation_of(self.name)
        return Side(implementation.prepare(self.pass_name, operands), implementation.scope)

    def path(self, operands: Operands) -> str:
        """What runs; for the passes through autograd of F.conv2d, what their forward runs."""
        implementation = implementation_of(self.name)
        with implementation.scope():
            return implementation.path(operands, self.pass_name)

    def refusal(self) -> str | None:
        """Why this side does not take part; None if it does."""
        return None

    @property
    def growth(self) -> float:
        """How much larger the sums of this side are on the way: verify.py."""
        return WINOGRAD_GROWTH if self.name.endswith(WINOGRAD) else 1.0


def plain(name: str) -> str:
    """The kernel without Winograd."""
    return name.removesuffix(WINOGRAD)


def kernel_names(dtype: torch.dtype) -> tuple[str, ...]:
    """Our kernels for this dtype, fastest first; behind each, the same with Winograd."""
    described = {each["name"]: each for each in _C.kernels()}
    names = [n for n in convgrad_ext.available_kernels() if dtype in described[n]["dtypes"]]
    both = ((name, name + WINOGRAD) for name in names if name != "reference")
    return (*chain.from_iterable(both), "reference")


@dataclass(frozen=True)
class Implementation:
    """The three passes as one operator call each, and a conv2d that can be differentiated."""

    single: dict[str, Callable[[Operands], Tensor]]
    conv2d: Conv2d
    path: Callable[[Operands, str], str]
    scope: Callable[[], AbstractContextManager[Any]] = nullcontext

    def prepare(self, pass_name: str, x: Operands) -> Run:
        if pass_name in self.single:
            return lambda: (self.single[pass_name](x),)
        return THROUGH_AUTOGRAD[pass_name](partial(self.conv2d, x.layer), x)


def implementation_of(name: str) -> Implementation:
    """A baseline, or one of our kernels, whatever the environment allows of Winograd."""
    if name == "conv2d":
        return Implementation(TORCHS, torch_conv2d, torch_path)
    if name == "aten":
        return Implementation(TORCHS, torch_conv2d, torch_path, without_onednn)
    scope = partial(on_kernel, plain(name), name.endswith(WINOGRAD))
    return Implementation(OURS, our_conv2d, our_path, scope)


@contextmanager
def on_kernel(name: str, winograd: bool) -> Iterator[None]:
    with convgrad_ext.use_kernel(name), convgrad_ext.allow_winograd(winograd):
        yield


@contextmanager
def without_onednn() -> Iterator[None]:
    """As torch.backends.mkldnn.flags(enabled=False), which would set its other flags as well."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


# The passes through autograd.


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().requires_grad_() for tensor in tensors]


def train_step(conv2d: Callable[..., Tensor], x: Operands) -> Run:
    """Forward, then the gradients in input, weight and bias."""
    input, weight, bias = leaves(x.input, x.weight, x.bias)

    def run() -> Results:
        output = conv2d(input, weight, bias)
        return torch.autograd.grad(output, (input, weight, bias), x.grad_output)

    return run


def double_backward(conv2d: Callable[..., Tensor], x: Operands) -> Run:
    """A gradient penalty: grad_input, and then its own gradients in weight and grad_output."""
    input, weight, grad_output = leaves(x.input, x.weight, x.grad_output)

    def run() -> Results:
        output = conv2d(input, weight, None)
        (penalised,) = torch.autograd.grad(output, input, grad_output, create_graph=True)
        return torch.autograd.grad(penalised, (weight, grad_output), x.direction)

    return run


def per_sample(conv2d: Callable[..., Tensor], x: Operands) -> Run:
    """Differential privacy: the gradients in weight and bias of each image by itself."""

    def loss(weight: Tensor, bias: Tensor, image: Tensor, grad_output: Tensor) -> Tensor:
        return (conv2d(image[None], weight, bias)[0] * grad_output).sum()

    gradients = vmap(grad(loss, argnums=(0, 1)), in_dims=(None, None, 0, 0))
    return lambda: gradients(x.weight, x.bias, x.input, x.grad_output)


THROUGH_AUTOGRAD = {
    "train_step": train_step,
    "double_backward": double_backward,
    "per_sample": per_sample,
}

# Our kernels.

ours = torch.ops.convgrad_ext


def our_arguments(layer: Layer) -> tuple[Any, ...]:
    """The operators take all four sides of the padding."""
    stride, (vertical, horizontal), dilation, groups = layer.arguments
    return stride, (vertical, vertical, horizontal, horizontal), dilation, groups


def our_conv2d(layer: Layer, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return convgrad_ext.conv2d(input, weight, bias, *layer.arguments)


OURS: dict[str, Callable[[Operands], Tensor]] = {
    "forward": lambda x: ours.conv2d(x.input, x.weight, None, *our_arguments(x.layer)),
    "grad_input": lambda x: ours.conv2d_input(
        x.layer.input_size, x.weight, x.grad_output, *our_arguments(x.layer)
    ),
    "grad_weight": lambda x: ours.conv2d_weight(
        x.input, x.layer.weight_size, x.grad_output, *our_arguments(x.layer)
    ),
}


def our_path(x: Operands, pass_name: str) -> str:
    layer, input, weight = x.layer, x.input, x.weight
    if pass_name == "per_sample":
        layer = layer.folded()
        input, weight = input.new_empty(layer.input_size), weight.new_empty(layer.weight_size)
    return ", ".join(
        dict.fromkeys(path_of(input, weight, layer.arguments, PASSES[pass_name].parts))
    )


def path_of(
    input: Tensor, weight: Tensor, arguments: tuple[Any, ...], parts: Sequence[str]
) -> list[str]:
    """The path of each of these passes of our convolution, as it is called now."""
    plans = convgrad_ext.plans(input, weight, None, *arguments)
    return ["+".join(paths_in(plans, part)) for part in parts]


def paths_in(plans: Sequence[Any], pass_name: str) -> dict[str, None]:
    """The distinct paths of a pass, of which the phases of grad_input may take several."""
    return dict.fromkeys(plan.path for plan in plans if plan.pass_name == pass_name)


# PyTorch's.


def torch_conv2d(layer: Layer, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(input, weight, bias, *layer.arguments)


def torch_gradient(x: Operands, wanted: int) -> Tensor:
    """The call that autograd makes, for one alone of the gradients in (input, weight, bias)."""
    stride, padding, dilation, groups = x.layer.arguments
    mask = [which == wanted for which in range(3)]
    params = stride, padding, dilation, False, (0, 0), groups, mask
    backward = torch.ops.aten.convolution_backward
    return backward(x.grad_output, x.input, x.weight, None, *params)[wanted]


TORCHS: dict[str, Callable[[Operands], Tensor]] = {
    "forward": lambda x: torch_conv2d(x.layer, x.input, x.weight, None),
    "grad_input": lambda x: torch_gradient(x, wanted=0),
    "grad_weight": lambda x: torch_gradient(x, wanted=1),
}


def torch_path(x: Operands, pass_name: str) -> str:
    """The name of the code that PyTorch picks for these operands."""
    stride, padding, dilation, groups = x.layer.arguments
    gradients = pass_name != "forward"
    input, weight = (tensor.detach().requires_grad_(gradients) for tensor in (x.input, x.weight))
    params = stride, padding, dilation, False, (0, 0), groups
    return str(torch._C._select_conv_backend(input, weight, None, *params).name)
