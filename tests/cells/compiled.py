"""torch.compile: of a training step, of transforms, over sizes that change."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from cells import Implementation, cell
from cells.functions import TRANSFORMS, nested
from cells.plain import (
    assert_raises,
    assert_same,
    conv2d,
    gradients_of,
    leaves_of,
    loss_of,
    operands,
)

GROUP, NESTED = "torch.compile", "torch.compile of torch.func of torch.func"


def compiled(function: Any, backend: Any = "aot_eager") -> Any:
    """A whole graph or an error. aot_eager traces and differentiates as the default does."""
    return torch.compile(function, fullgraph=True, backend=backend)


def frames_of_steps(conv: Any, sizes: Any, dynamic: bool | None) -> int:
    """The graphs that forward and backward over inputs of these sizes take; values are checked."""
    graphs = CompileCounterWithBackend("aot_eager")
    step = torch.compile(loss_of(conv), fullgraph=True, dynamic=dynamic, backend=graphs)
    _, weight, bias = operands()
    for size in sizes:
        leaves = leaves_of(torch.randn(size, dtype=torch.float64), weight, bias)
        actual = torch.autograd.grad(step(*leaves), leaves)
        assert_same(actual, gradients_of(conv2d, *leaves))
    return graphs.frame_count


@cell(GROUP, "static shapes", "forward and backward; a graph for each of three sizes")
def check_static(implementation: Implementation) -> None:
    sizes = [(5, 4, 7, 10), (3, 4, 9, 8), (8, 4, 7, 11)]
    assert frames_of_steps(implementation.conv2d, sizes, dynamic=False) == 3


@cell(GROUP, "dynamic shapes", "forward and backward; one graph for three sizes of batch and image")
def check_dynamic(implementation: Implementation) -> None:
    # No two extents are equal in the first call: the compiler would take them for one symbol.
    sizes = [(5, 4, 7, 10), (3, 4, 9, 8), (8, 4, 7, 11)]
    assert frames_of_steps(implementation.conv2d, sizes, dynamic=True) == 1


@cell(GROUP, "batch sizes", "batches of 5, 2, 3, ... 12: a second graph for the second, no third")
def check_batch_sizes(implementation: Implementation) -> None:
    sizes = [(N, 4, 7, 10) for N in (5, 2, 3, 4, 6, 7, 8, 9, 11, 12)]
    assert frames_of_steps(implementation.conv2d, sizes, dynamic=None) == 2


@cell(GROUP, "padding='same'", "one graph for three sizes of batch and image")
def check_same_padding(implementation: Implementation) -> None:
    graphs = CompileCounterWithBackend("aot_eager")
    step = torch.compile(implementation.conv2d, fullgraph=True, dynamic=True, backend=graphs)
    weight = torch.randn(6, 4, 3, 3, dtype=torch.float64)
    for size in [(5, 4, 7, 10), (3, 4, 9, 8), (8, 4, 7, 11)]:
        image = torch.randn(size, dtype=torch.float64)
        assert_same(step(image, weight, padding="same"), conv2d(image, weight, padding=1))
    assert graphs.frame_count == 1


@cell(GROUP, "default backend", "forward and backward through inductor's generated code")
def check_inductor(implementation: Implementation) -> None:
    leaves = leaves_of(*operands())
    loss = compiled(loss_of(implementation.conv2d), "inductor")
    actual = torch.autograd.grad(loss(*leaves), leaves)
    assert_same(actual, gradients_of(conv2d, *operands()))


@cell(GROUP, "a model", "layers with batch norm between them, in training mode")
def check_model(implementation: Implementation) -> None:
    def gradients(Conv2d: type[nn.Module], wrap: Any) -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        layers = [Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), Conv2d(4, 2, 2)]
        model = nn.Sequential(*layers).double()
        output = wrap(model)(torch.randn(3, 3, 9, 8, dtype=torch.float64))
        return torch.autograd.grad(output.square().sum(), tuple(model.parameters()))

    eager = gradients(nn.Conv2d, lambda model: model)
    # The first bias is followed by a mean that takes it off: its gradient is rounding alone.
    assert_same(gradients(implementation.Conv2d, compiled)[2:], eager[2:])


def register_compiled(name: str) -> None:
    @cell(GROUP, f"compile({name})", f"`torch.compile` of `torch.func.{name}`, one graph")
    def check(implementation: Implementation) -> None:
        transformed = TRANSFORMS[name](loss_of(implementation.conv2d))
        expected = TRANSFORMS[name](loss_of(conv2d))(*operands(small=True))
        assert_same(compiled(transformed)(*operands(small=True)), expected)


def register_nested(outer: str, inner: str) -> None:
    slow = (outer, inner) not in QUICK

    @cell(NESTED, f"{outer} of {inner}", "`torch.compile` of the nesting", slow=slow)
    def check(implementation: Implementation) -> None:
        expected = nested(TRANSFORMS, outer, inner, conv2d)(*operands(small=True))
        transformed = compiled(nested(TRANSFORMS, outer, inner, implementation.conv2d))
        assert_same(transformed(*operands(small=True)), expected)


COMPILED = tuple(name for name in TRANSFORMS if name != "linearize")  # which is a tracer itself
for name in COMPILED:
    register_compiled(name)


def gradient_penalty(implementation: Implementation, backend: str, frozen: bool) -> Tensor:
    """The gradient in the input of loss + |its own gradient in the input|^2, loss compiled."""
    input, weight, bias = operands()
    input = input.requires_grad_()
    weight.requires_grad_(not frozen)
    loss = compiled(loss_of(implementation.conv2d), backend)(input, weight, bias)
    (gradient,) = torch.autograd.grad(loss, input, create_graph=True)
    return torch.autograd.grad(loss + gradient.square().sum(), input)[0]


def expected_penalty() -> Tensor:
    input, weight, bias = operands()
    input = input.requires_grad_()
    loss = loss_of(conv2d)(input, weight, bias)
    (gradient,) = torch.autograd.grad(loss, input, create_graph=True)
    return torch.autograd.grad(loss + gradient.square().sum(), input)[0]


NO_DOUBLE_BACKWARD = "does not currently support double backward"
FROZEN_LIMIT = (
    "A compiled function cannot be differentiated twice from outside. PyTorch notices this in "
    "`torch.autograd.grad` only if the compiled backward holds a tensor that wants a gradient. "
    "With a frozen weight ours holds none, as `x @ w` does: the second derivative is dropped. "
    "`F.conv2d` holds its input in a backend that keeps the backward as traced, and drops "
    "the second derivative in the default one. An operator cannot notice: the compiled "
    "backward calls it with gradients off, on tensors that want none. "
    "`backward()` raises in every case; `compile(grad(...))` is right."
)


@cell(GROUP, "double backward", "differentiating a compiled loss twice is refused")
def check_double_backward(implementation: Implementation) -> None:
    assert_raises(
        RuntimeError, NO_DOUBLE_BACKWARD, gradient_penalty, implementation, "aot_eager", False
    )


@cell(GROUP, "double backward by backward()", "refused with a frozen weight too")
def check_double_backward_of_everything(implementation: Implementation) -> None:
    input, weight, bias = operands()
    input = input.requires_grad_()
    loss = compiled(loss_of(implementation.conv2d), "inductor")(input, weight, bias)
    (gradient,) = torch.autograd.grad(loss, input, create_graph=True)
    penalty = loss + gradient.square().sum()
    assert_raises(RuntimeError, NO_DOUBLE_BACKWARD, penalty.backward)


def register_frozen(backend: str, meaning: str) -> None:
    @cell(GROUP, f"double backward, frozen weight, {backend}", meaning, limit=FROZEN_LIMIT)
    def check(implementation: Implementation) -> None:
        assert_same(gradient_penalty(implementation, backend, frozen=True), expected_penalty())


register_frozen("aot_eager", "by `torch.autograd.grad`; the right value, or refused")
register_frozen("inductor", "the same in the default backend")

# hessian is a nesting itself. Under a third transform PyTorch's tracer fails for F.conv2d too, and
# leaves forward mode in disorder for the rest of the process.
NESTABLE = tuple(name for name in COMPILED if name != "hessian")
QUICK = {("grad", "grad"), ("jvp", "jvp"), ("grad", "jvp")}  # the others are slow tests
for outer in NESTABLE:
    for inner in NESTABLE:
        register_nested(outer, inner)
