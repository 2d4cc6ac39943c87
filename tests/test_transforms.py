"""torch.func on the parts of the operators: batching rules, the other two passes, the Functions.

Every transform and nesting by itself is a cell of docs/works.md, see test_works.py. Expected values
come from the same transform of torch.nn.functional.conv2d, or from a loop over the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, hessian, jvp, vmap
from torch.utils._pytree import tree_leaves

import convgrad_ext

PARAMS: dict[str, Any] = {"stride": 2, "padding": (1, 0), "dilation": (1, 2), "groups": 2}
BATCH = 3
Conv = Callable[..., Tensor]

pytestmark = pytest.mark.usefixtures("recorder")  # what is left below the transforms is plain


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def operands(*batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weight and bias of a strided, dilated, grouped convolution, batched if asked."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 4, 5, 6), (6, 2, 3, 2), (6,))
    input, weight, bias = (
        torch.randn(*batch, *size, dtype=torch.float64, generator=generator) for size in sizes
    )
    return input, weight, bias


def loss_of(conv: Conv) -> Conv:
    """A loss whose derivatives are not zero at any order that is tested here."""
    return lambda input, weight, bias: (conv(input, weight, bias, **PARAMS) ** 3).sum()


def tangent_of(conv: Conv) -> Any:
    def run(*primals: Tensor) -> Tensor:
        return jvp(loss_of(conv), primals, tuple(p.flip(0) for p in primals))[1]

    return run


EVERY = (0, 1, 2)
TRANSFORMS: dict[str, Callable[[Conv], Any]] = {
    "grad": lambda conv: grad(loss_of(conv), EVERY),
    "jvp": tangent_of,
    "hessian": lambda conv: hessian(loss_of(conv), EVERY),
}
BATCHED: dict[str, tuple[Callable[[Conv], Any], tuple[int | None, ...]]] = {
    f"{name}, batched {what}": (transform, dims)
    for name, transform in {
        "forward": loss_of,
        "grad": lambda conv: grad(loss_of(conv), EVERY),
        "jvp": tangent_of,
    }.items()
    for what, dims in {
        "input": (0, None, None),
        "weight": (None, 1, None),
        "bias": (None, None, 0),
        "input and weight": (2, 0, None),
        "weight and bias": (None, 0, 0),
        "input and bias": (0, None, 0),
        "all": (0, 0, 0),
    }.items()
}


def assert_same(actual: Any, expected: Any) -> None:
    """Equal to float64 precision, and not all zero, as a missing derivative would be."""
    for a, e in zip(tree_leaves(actual), tree_leaves(expected), strict=True):
        a, e = a.detach(), e.detach()
        assert e.abs().max() > 0
        torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-10 * float(e.abs().max()))


PAIRS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "conv2d": ((2, 4, 5, 6), (6, 2, 3, 2)),
    "conv2d_input": ((6, 2, 3, 2), (2, 6, 3, 2)),
    "conv2d_weight": ((2, 4, 5, 6), (2, 6, 3, 2)),
}


@pytest.mark.parametrize("applied", ["operator", "Function"])
@pytest.mark.parametrize("name", PAIRS)
def test_forward_over_forward_of_a_product(name: str, applied: str) -> None:
    """f(x + t*a, w + t*b) has the second derivative 2*f(a, b) at 0: f is linear in either factor.

    PyTorch runs a Function's jvp with forward mode off, which hides the outer derivative.
    """
    sizes: dict[str, Any] = {"conv2d_input": (2, 4, 5, 6), "conv2d_weight": (6, 2, 3, 2)}
    params = ((2, 2), (1, 1, 0, 0), (1, 2), 2)
    call = getattr(torch.ops.convgrad_ext, name)
    if applied == "Function":
        pascal = name.title().replace("_", "").replace("2D", "2d")
        call = getattr(convgrad_ext, f"{pascal}Function").apply

    def product(first: Tensor, second: Tensor) -> Tensor:
        if name == "conv2d":
            return call(first, second, None, *params)
        if name == "conv2d_input":
            return call(sizes[name], first, second, *params)
        return call(first, sizes[name], second, *params)

    x, w, a, b = (torch.randn(size, dtype=torch.float64) for size in PAIRS[name] * 2)
    once = lambda x, w: jvp(product, (x, w), (a, b))[1]  # noqa: E731
    assert_same(once(x, w), product(a, w) + product(x, b))
    assert_same(jvp(once, (x, w), (a, b))[1], 2 * product(a, b))


def batched_operands(dims: tuple[int | None, ...]) -> list[Tensor]:
    """Operands with a batch dimension where `dims` has one."""
    return [
        plain if dim is None else batched.movedim(0, dim)
        for plain, batched, dim in zip(operands(), operands(BATCH), dims, strict=True)
    ]


@pytest.mark.parametrize("name", BATCHED)
def test_vmap(name: str) -> None:
    """Per-example gradients and ensembles: one call gives what a loop over the batch would."""
    transform, dims = BATCHED[name]
    tensors = batched_operands(dims)
    actual = vmap(transform(convgrad_ext.conv2d), dims)(*tensors)
    examples = [
        [t if d is None else t.select(d, b) for t, d in zip(tensors, dims, strict=True)]
        for b in range(BATCH)
    ]
    looped = [tree_leaves(transform(F.conv2d)(*example)) for example in examples]
    assert_same(actual, [torch.stack(leaves) for leaves in zip(*looped, strict=True)])


@pytest.mark.parametrize(
    "name", ["grad, batched input", "grad, batched all", "jvp, batched weight"]
)
def test_compiled_vmap(name: str) -> None:
    transform, dims = BATCHED[name]
    tensors = batched_operands(dims)
    compiled = torch.compile(
        vmap(transform(convgrad_ext.conv2d), dims), fullgraph=True, backend="aot_eager"
    )
    assert_same(compiled(*tensors), vmap(transform(F.conv2d), dims)(*tensors))


@pytest.mark.parametrize("pass_name", ["conv2d_input", "conv2d_weight"])
@pytest.mark.parametrize("dims", [(0, None), (None, 0), (0, 0), (2, 1)], ids=str)
def test_vmap_of_the_companions(pass_name: str, dims: tuple[int | None, int | None]) -> None:
    """Each rule of batching, called by itself: one operand batched, or both."""
    input, weight, bias = operands(BATCH)
    grad_output = F.conv2d(input[0], weight[0], bias[0], **PARAMS).expand(BATCH, -1, -1, -1, -1)
    grad_output = grad_output * torch.arange(1.0, BATCH + 1)[:, None, None, None, None]

    def run(first: Tensor, grad_output: Tensor, module: Any) -> Tensor:
        if pass_name == "conv2d_input":
            return module.conv2d_input((2, 4, 5, 6), first, grad_output, **PARAMS)
        return module.conv2d_weight(first, (6, 2, 3, 2), grad_output, **PARAMS)

    pair = (weight if pass_name == "conv2d_input" else input, grad_output)
    tensors = [t[0] if d is None else t.movedim(0, d) for t, d in zip(pair, dims, strict=True)]
    actual = vmap(lambda a, b: run(a, b, convgrad_ext), dims)(*tensors)
    looped = [
        run(*(t[0] if d is None else t[b] for t, d in zip(pair, dims, strict=True)), torch.nn.grad)
        for b in range(BATCH)
    ]
    assert_same(actual, torch.stack(looped))


def test_the_functions_can_be_applied_directly() -> None:
    """Conv2dFunction.apply inside torch.func, where it meets all levels of a transform at once."""
    params = ((2, 2), (1, 1, 0, 0), (1, 2), 2)

    def direct(input: Tensor, weight: Tensor, bias: Tensor, **_: Any) -> Tensor:
        return convgrad_ext.Conv2dFunction.apply(input, weight, bias, *params)

    for transform in TRANSFORMS.values():
        assert_same(transform(direct)(*operands()), transform(F.conv2d)(*operands()))
