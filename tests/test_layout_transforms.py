"""The strides of gradients under torch.compile and torch.func."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from layouts import (
    DENSE,
    LAST,
    PARAMS,
    RAW,
    SHAPES,
    assert_gradients_are_torchs,
    contiguous_strides,
    gradients,
    leaves_of,
    random,
)
from tolerance import assert_sums_equal
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import functional_call, grad, vmap

import convgrad_ext


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("weight_layout", ["contiguous", "channels_last", "rows_outermost"])
@pytest.mark.parametrize("shape", ["dense", "pointwise", "depthwise"])
def test_compiled_gradients_have_them(shape: str, weight_layout: str) -> None:
    leaves = leaves_of(shape, DENSE["channels_last"], DENSE[weight_layout])
    params = SHAPES[shape][2]
    compiled = torch.compile(convgrad_ext.conv2d, fullgraph=True, backend="aot_eager")
    actual = gradients(compiled, *leaves, **params)
    assert [g.stride() for g in actual] == [t.stride() for t in leaves]
    assert_gradients_are_torchs(actual, *leaves, **params)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_compiled_gradients_of_changing_sizes_have_them(layout: str) -> None:
    """Strides are symbols as sizes are: one graph serves all."""
    graphs = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(convgrad_ext.conv2d, fullgraph=True, dynamic=True, backend=graphs)
    for size in ((5, 4, 7, 10), (3, 4, 9, 8), (8, 4, 7, 11)):
        input = DENSE[layout](random(*size)).requires_grad_()
        weight = DENSE[layout](random(6, 4, 3, 2, seed=1)).requires_grad_()
        actual = gradients(compiled, input, weight, stride=2)
        assert [g.stride() for g in actual] == [input.stride(), weight.stride()]
        assert_gradients_are_torchs(actual, input, weight, stride=2)
    assert graphs.frame_count == 1


@pytest.mark.usefixtures("fresh_compiler")
def test_gradients_compiled_to_machine_code_have_them() -> None:
    """The compiler may choose the strides of intermediate tensors, not those of results."""
    input, weight = leaves_of("dense", DENSE["channels_last"], DENSE["rows_outermost"])
    compiled = torch.compile(
        lambda x, w: convgrad_ext.conv2d(x * 2, w + 1, padding=1).relu(), fullgraph=True
    )
    output = compiled(input, weight)
    actual = torch.autograd.grad(output.sum(), (input, weight))
    assert [g.stride() for g in actual] == [input.stride(), weight.stride()]


def test_per_sample_gradients_of_channels_last_images() -> None:
    """The strides of one example are not those of the batch; the values stay right."""
    layer = convgrad_ext.Conv2d(4, 6, 3, dtype=torch.float64).to(memory_format=LAST)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    images = random(3, 4, 6, 5).contiguous(memory_format=LAST)

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return (functional_call(layer, parameters, image[None]) ** 2).sum()

    per_sample = vmap(grad(loss), (None, 0))(parameters, images)
    for b, image in enumerate(images):
        weight, bias = (p.detach().contiguous().requires_grad_() for p in layer.parameters())
        output = F.conv2d(image[None].contiguous(), weight, bias)
        expected = torch.autograd.grad((output**2).sum(), (weight, bias))
        for name, theirs in zip(("weight", "bias"), expected, strict=True):
            magnitudes = torch.full_like(theirs, 1e4)
            assert_sums_equal(per_sample[name][b], theirs, magnitudes, reduction=500)


@pytest.mark.parametrize("dims", [(0, None), (None, 0), (0, 0)], ids=str)
def test_batched_companions_take_strides(dims: tuple[int | None, int | None]) -> None:
    weight, grad_output = random(3, 6, 4, 3, 3), random(3, 2, 6, 4, 3, seed=1)
    tensors = [t[0] if d is None else t for t, d in zip((weight, grad_output), dims, strict=True)]
    strides = contiguous_strides((2, 4, 6, 5))

    def run(weight: Tensor, grad_output: Tensor) -> Tensor:
        return RAW.conv2d_input((2, 4, 6, 5), weight, grad_output, *PARAMS, strides)

    actual = vmap(run, dims)(*tensors)
    for b in range(3):
        one = [t if d is None else t[b] for t, d in zip(tensors, dims, strict=True)]
        expected = torch.nn.grad.conv2d_input((2, 4, 6, 5), *one)
        assert_sums_equal(actual[b], expected, torch.full_like(expected, 1000), reduction=500)
