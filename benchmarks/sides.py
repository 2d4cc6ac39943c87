"""The sides of every comparison: our kernels and F.conv2d; peers.py has others.

forward, grad_input and grad_weight are one operator call, as autograd makes it. The other passes go
through autograd, as a training step, a gradient penalty and differential privacy do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

import convgrad_ext
from benchmarks.layers import Form, Layer, Operands, make_operands
from benchmarks.verify import WINOGRAD_GROWTH
from convgrad_ext import _C

WINOGRAD = "+winograd"  # behind the name of a kernel that may use it where it gains by it
BASELINE = "conv2d"

Results = tuple[Tensor, ...]
Run = Callable[[], Any]


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
    ours: bool = True

    def side(self, operands: Operands | None = None) -> Side:
        """Raises a RuntimeError, with the reason, if this side cannot take part."""
        x, library = operands or make_operands(self.layer, self.form), self.library()
        if prepare := PASSES[self.pass_name].prepare:
            return Side(prepare(partial(library.conv2d, self.layer), x), self.scope)
        single = library.single[self.pass_name]
        return Side(lambda: (single(x),), self.scope)

    @property
    def label(self) -> str:
        """The pass, as the report has it."""
        return self.pass_name

    def growth(self, reduction: int) -> float:
        """How much larger errors may be than those of the formula; see verify.py."""
        return WINOGRAD_GROWTH if self.name.endswith(WINOGRAD) else 1.0

    def path(self, operands: Operands) -> str:
        """What runs; for the passes through autograd of F.conv2d, what their forward runs."""
        with self.scope():
            return self.library().path(operands, self.pass_name)

    def library(self) -> Library:
        return TORCH if self.name == BASELINE else OURS

    def scope(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.name == BASELINE else on_kernel(self.name)


@dataclass(frozen=True)
class Library:
    """A conv2d that can be differentiated, and the three passes as one operator call each."""

    conv2d: Callable[..., Tensor]  # of a layer, input, weight and bias
    single: dict[str, Callable[[Operands], Tensor]]
    path: Callable[[Operands, str], str]


# The passes through autograd.


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().requires_grad_() for tensor in tensors]


def train_step(conv2d: Callable[..., Tensor], x: Operands) -> Run:
    """Forward, then the gradients in input, weight and bias."""
    recorded = leaves(x.input, x.weight, x.bias)
    return lambda: torch.autograd.grad(conv2d(*recorded), recorded, x.grad_output)


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


@dataclass(frozen=True)
class Pass:
    results: tuple[str, ...]
    parts: tuple[str, ...]  # the passes of which it is made, each as much work as a forward
    prepare: Callable[[Callable[..., Tensor], Operands], Run] | None = None  # through autograd


ALL = ("forward", "grad_input", "grad_weight")
PASSES = {
    "forward": Pass(("output",), ("forward",)),
    "grad_input": Pass(("grad_input",), ("grad_input",)),
    "grad_weight": Pass(("grad_weight",), ("grad_weight",)),
    "train_step": Pass(("grad_input", "grad_weight", "grad_bias"), ALL, train_step),
    "double_backward": Pass(("grad_weight", "output"), (*ALL, "forward"), double_backward),
    "per_sample": Pass(("grad_weight", "grad_bias"), ("forward", "grad_weight"), per_sample),
}

# Our kernels.


def plain(name: str) -> str:
    """The kernel without Winograd."""
    return name.removesuffix(WINOGRAD)


def kernel_names(dtype: torch.dtype) -> tuple[str, ...]:
    """Our kernels for this dtype, fastest first; behind each, the same with Winograd."""
    described = {each["name"]: each for each in _C.kernels()}
    names = [n for n in convgrad_ext.available_kernels() if dtype in described[n]["dtypes"]]
    fast = [name + suffix for name in names if name != "reference" for suffix in ("", WINOGRAD)]
    return (*fast, "reference")


@contextmanager
def on_kernel(name: str) -> Iterator[None]:
    """One of our kernels, whatever the environment allows of Winograd."""
    with convgrad_ext.use_kernel(plain(name)), convgrad_ext.allow_winograd(name != plain(name)):
        yield


ours = torch.ops.convgrad_ext


def our_arguments(layer: Layer) -> tuple[Any, ...]:
    """The operators take all four sides of the padding."""
    stride, (vertical, horizontal), dilation, groups = layer.arguments
    return stride, (vertical, vertical, horizontal, horizontal), dilation, groups


def our_path(x: Operands, pass_name: str) -> str:
    layer, input, weight = x.layer, x.input, x.weight
    if pass_name == "per_sample":
        layer = layer.folded()
        input, weight = input.new_empty(layer.input_size), weight.new_empty(layer.weight_size)
    paths = path_of(input, weight, layer.arguments, PASSES[pass_name].parts)
    return ", ".join(dict.fromkeys(paths))


def path_of(
    input: Tensor, weight: Tensor, arguments: tuple[Any, ...], parts: Sequence[str]
) -> list[str]:
    """The path of each of these passes of our convolution, as it is called now.

    The phases of grad_input may take several.
    """
    plans = convgrad_ext.plans(input, weight, None, *arguments)
    paths = ([plan.path for plan in plans if plan.pass_name == part] for part in parts)
    return ["+".join(dict.fromkeys(found)) for found in paths]


OURS = Library(
    lambda layer, *tensors: convgrad_ext.conv2d(*tensors, *layer.arguments),
    {
        "forward": lambda x: ours.conv2d(x.input, x.weight, None, *our_arguments(x.layer)),
        "grad_input": lambda x: ours.conv2d_input(
            x.layer.input_size, x.weight, x.grad_output, *our_arguments(x.layer)
        ),
        "grad_weight": lambda x: ours.conv2d_weight(
            x.input, x.layer.weight_size, x.grad_output, *our_arguments(x.layer)
        ),
    },
    our_path,
)

# PyTorch's.


def torch_gradient(x: Operands, wanted: int) -> Tensor:
    """The call that autograd makes, for one alone of the gradients in (input, weight, bias)."""
    stride, padding, dilation, groups = x.layer.arguments
    mask = [which == wanted for which in range(3)]
    params = stride, padding, dilation, False, (0, 0), groups, mask
    backward = torch.ops.aten.convolution_backward
    return backward(x.grad_output, x.input, x.weight, None, *params)[wanted]


def torch_path(x: Operands, pass_name: str) -> str:
    """The name of the code that PyTorch picks for these operands."""
    stride, padding, dilation, groups = x.layer.arguments
    gradients = pass_name != "forward"
    input, weight = (tensor.detach().requires_grad_(gradients) for tensor in (x.input, x.weight))
    params = stride, padding, dilation, False, (0, 0), groups
    return str(torch._C._select_conv_backend(input, weight, None, *params).name)


TORCH = Library(
    lambda layer, *tensors: F.conv2d(*tensors, *layer.arguments),
    {
        "forward": lambda x: F.conv2d(x.input, x.weight, None, *x.layer.arguments),
        "grad_input": lambda x: torch_gradient(x, wanted=0),
        "grad_weight": lambda x: torch_gradient(x, wanted=1),
    },
    torch_path,
)
