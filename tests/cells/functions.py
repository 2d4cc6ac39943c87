"""torch.func: every transform alone, and every transform of every transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from torch.utils._pytree import tree_leaves

from cells import Implementation, cell
from cells.plain import PARAMS, assert_same, conv2d, gradients_of, loss_of, operands

Function = Callable[..., Any]
EVERY = (0, 1, 2)
BATCH = 3
GROUP, NESTED = "torch.func", "torch.func of torch.func"


def tangents_of(primals: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(p.flip(0) for p in primals)


def pullback_of(function: Function) -> Function:
    def run(*primals: Tensor) -> Any:
        output, pull = vjp(function, *primals)
        return pull(torch.ones_like(output))

    return run


def linearized(function: Function) -> Function:
    def run(*primals: Tensor) -> Any:
        return linearize(function, *primals)[1](*tangents_of(primals))

    return run


def batched(function: Function) -> Function:
    """Two examples of input and weight, made of the operands; the bias is common to both."""

    def run(input: Tensor, weight: Tensor, bias: Tensor) -> Any:
        inputs = torch.stack([input, 2 * input])
        weights = torch.stack([weight, weight.flip(0)], dim=1)
        return vmap(function, (0, 1, None))(inputs, weights, bias)

    return run


TRANSFORMS: dict[str, Callable[[Function], Function]] = {
    "grad": lambda f: grad(f, EVERY),
    "vjp": pullback_of,
    "jvp": lambda f: lambda *primals: jvp(f, primals, tangents_of(primals))[1],
    "jacrev": lambda f: jacrev(f, EVERY),
    "jacfwd": lambda f: jacfwd(f, EVERY),
    "hessian": lambda f: hessian(f, EVERY),
    "vmap": batched,
    "linearize": linearized,
}


EXPECTED = TRANSFORMS | {"linearize": TRANSFORMS["jvp"]}  # by definition


LINEARIZE_LIMIT = (
    "`torch.func.linearize` traces its function with dual numbers, which PyTorch neither nests nor "
    "batches, and keeps what the trace computed as constants: a derivative taken from outside is "
    "lost, for `F.conv2d` too."
)


def scalar_of(function: Function) -> Function:
    """A number that depends on every entry of the result, so that it can be transformed again."""

    def run(*primals: Tensor) -> Tensor:
        leaves = tree_leaves(function(*primals))
        return sum(
            (leaf * torch.arange(1.0, leaf.numel() + 1).view_as(leaf)).sum() / leaf.numel()
            for leaf in leaves
        )

    return run


def called_functionally(implementation: Implementation) -> Function:
    """The loss of a layer whose parameters are arguments."""
    layer = implementation.Conv2d(2, 2, 2, **PARAMS).double()

    def run(input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        output = functional_call(layer, {"weight": weight, "bias": bias}, (input,))
        return (output**3).sum()

    return run


def register_single(name: str) -> None:
    transform = TRANSFORMS[name]

    @cell(GROUP, name, f"`torch.func.{name}` in input, weight and bias")
    def check(implementation: Implementation) -> None:
        actual = transform(loss_of(implementation.conv2d))(*operands())
        assert_same(actual, EXPECTED[name](loss_of(conv2d))(*operands()))


def nested(table: Any, outer: str, inner: str, conv: Function) -> Function:
    return table[outer](scalar_of(table[inner](loss_of(conv))))


def register_nested(outer: str, inner: str) -> None:
    traced = "linearize" in (outer, inner)

    @cell(
        NESTED,
        f"{outer} of {inner}",
        f"`{outer}` of a sum over the result of `{inner}`",
        limit=LINEARIZE_LIMIT if traced else "",
        slow=traced,
    )
    def check(implementation: Implementation) -> None:
        tensors = operands(small=True)
        actual = nested(TRANSFORMS, outer, inner, implementation.conv2d)(*tensors)
        assert_same(actual, nested(EXPECTED, outer, inner, conv2d)(*tensors))


def register_functional_call(outer: str) -> None:
    @cell(NESTED, f"{outer} of functional_call", f"`{outer}` of a layer whose parameters are given")
    def check(implementation: Implementation) -> None:
        tensors = operands(small=True)
        actual = TRANSFORMS[outer](called_functionally(implementation))(*tensors)
        assert_same(actual, EXPECTED[outer](loss_of(conv2d))(*tensors))


for name in TRANSFORMS:
    register_single(name)


@cell(GROUP, "dual numbers", "`torch.autograd.forward_ad`: a tangent through a plain call")
def check_dual_numbers(implementation: Implementation) -> None:
    primals = operands()
    tangents = tangents_of(primals)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(p, t) for p, t in zip(primals, tangents, strict=True)]
        actual = forward_ad.unpack_dual(loss_of(implementation.conv2d)(*duals)).tangent
    assert_same(actual, TRANSFORMS["jvp"](loss_of(conv2d))(*primals))


@cell(GROUP, "per-sample gradients", "`vmap(grad)` of `functional_call` over the images of a batch")
def check_per_sample_gradients(implementation: Implementation) -> None:
    _, weight, bias = operands(small=True)
    images = operands(BATCH, small=True)[0]
    function = called_functionally(implementation)
    actual = vmap(grad(function, EVERY), (0, None, None))(images, weight, bias)
    looped = [gradients_of(conv2d, image, weight, bias) for image in images]
    assert_same(actual, [torch.stack(gradient) for gradient in zip(*looped, strict=True)])


@cell(GROUP, "no_grad inside", "a part under `torch.no_grad()` is a constant to `grad`")
def check_no_grad_inside(implementation: Implementation) -> None:
    input, weight, _ = operands()

    def half_constant(weight: Tensor) -> Tensor:
        with torch.no_grad():
            constant = implementation.conv2d(input, weight, **PARAMS)
        return (implementation.conv2d(input, weight, **PARAMS) * constant).sum()

    constant = conv2d(input, weight, **PARAMS)
    expected = grad(lambda weight: (conv2d(input, weight, **PARAMS) * constant).sum())(weight)
    assert_same(grad(half_constant)(weight), expected)


@cell(GROUP, "batched gradients", "`torch.autograd.grad` with `is_grads_batched`")
def check_batched_gradients(implementation: Implementation) -> None:
    def rows(conv: Function) -> Any:
        leaves = [t.requires_grad_() for t in operands(small=True)]
        output = conv(*leaves, **PARAMS)
        basis = torch.eye(output.numel(), dtype=output.dtype).unflatten(1, output.shape)
        return torch.autograd.grad(output, leaves, basis, is_grads_batched=True)

    assert_same(rows(implementation.conv2d), rows(conv2d))


for outer in TRANSFORMS:
    for inner in TRANSFORMS:
        register_nested(outer, inner)
    register_functional_call(outer)
