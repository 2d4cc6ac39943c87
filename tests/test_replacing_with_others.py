"""replacing_conv2d beside other parts of PyTorch: modes, transforms, checkpoints and graphs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from one_layer import FILTERS, IMAGES, assert_equal, conv
from spies import OURS, Graphs, convolutions
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import convgrad_ext
from convgrad_ext import replacing_conv2d

# With other parts of PyTorch


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_without_gradients(guard: Callable) -> None:
    weight = FILTERS.clone().requires_grad_()
    with replacing_conv2d(), guard():
        assert not F.conv2d(IMAGES, weight).requires_grad
        assert convolutions(lambda: F.conv2d(IMAGES, weight)) == [OURS]


def test_autocast_lowers_the_operands() -> None:
    images, weight = IMAGES.float(), FILTERS.float()
    with torch.autocast("cpu", torch.bfloat16):
        expected = F.conv2d(images, weight)
        with replacing_conv2d():
            actual = F.conv2d(images, weight)
    assert actual.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(actual, expected)


def test_per_sample_gradients() -> None:
    def loss(weight: Tensor, image: Tensor) -> Tensor:
        return F.conv2d(image, weight).square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))
    expected = per_sample(FILTERS, IMAGES)
    with replacing_conv2d():
        actual = per_sample(FILTERS, IMAGES)
        ours = convolutions(lambda: per_sample(FILTERS, IMAGES))
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)
    assert {name.partition("::")[0] for name in ours} == {"convgrad_ext"}


def test_modes_around_it_see_our_function_and_modes_inside_theirs() -> None:
    class Log(TorchFunctionMode):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.seen.append(func)
            return func(*args, **(kwargs or {}))

    with Log() as around, replacing_conv2d(), Log() as inside:
        F.conv2d(IMAGES, FILTERS)
    assert convgrad_ext.conv2d in around.seen
    assert F.conv2d not in around.seen
    assert F.conv2d in inside.seen


def recompute(context: Any) -> list[str]:
    """The convolutions of a backward that computes the forward again."""
    leaves = [t.clone().requires_grad_() for t in (IMAGES, FILTERS)]
    with replacing_conv2d():
        output = checkpoint(
            lambda *t: F.conv2d(*t).tanh(),
            *leaves,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), context()),
        )
        return convolutions(lambda: output.sum().backward())


def test_checkpoints_are_told_to_compute_again_here() -> None:
    """PyTorch runs a backward outside of function modes, also where it is called inside."""
    assert recompute(nullcontext)[0] == "aten::convolution"
    assert recompute(replacing_conv2d) == [OURS, f"{OURS}_input", f"{OURS}_weight"]


# Graphs


def test_a_compiled_layer_called_inside() -> None:
    """It is compiled once for each side of the block."""
    torch._dynamo.reset()
    graphs, module = Graphs(), conv()
    compiled = torch.compile(module, fullgraph=True, backend=graphs)
    expected = compiled(IMAGES)
    with replacing_conv2d():
        assert_equal(compiled(IMAGES), expected)
    assert torch.equal(compiled(IMAGES), expected)
    assert graphs.called == [[F.conv2d], [torch.ops.convgrad_ext.conv2d]]


def block(images: Tensor) -> Tensor:
    with replacing_conv2d():
        output = F.conv2d(images, FILTERS)
    return output + F.conv2d(images, FILTERS)


@replacing_conv2d()
def decorated(images: Tensor) -> Tensor:
    return F.conv2d(images, FILTERS)


@pytest.mark.parametrize(
    ("function", "convolution"),
    [
        pytest.param(block, [torch.ops.convgrad_ext.conv2d, F.conv2d], id="block"),
        pytest.param(decorated, [torch.ops.convgrad_ext.conv2d], id="decorator"),
    ],
)
def test_a_compiled_function_with_the_block_inside(function: Callable, convolution: list) -> None:
    torch._dynamo.reset()
    graphs = Graphs()
    compiled = torch.compile(function, fullgraph=True, backend=graphs)
    assert_equal(compiled(IMAGES), function(IMAGES))
    assert graphs.called[0][: len(convolution)] == convolution


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not_strict"])
def test_exported_inside(strict: bool) -> None:
    module = conv()
    with replacing_conv2d():
        program = torch.export.export(module, (IMAGES,), strict=strict)
    assert torch.ops.convgrad_ext.conv2d.default in [n.target for n in program.graph.nodes]
    assert_equal(program.module()(IMAGES), module(IMAGES))


def test_exported_before_and_run_inside() -> None:
    module = conv(padding="same")
    program = torch.export.export(module, (IMAGES,)).module()
    with replacing_conv2d():
        assert convolutions(lambda: program(IMAGES)) == [OURS]
        assert_equal(program(IMAGES), module(IMAGES))


def test_fx_records_our_function() -> None:
    with replacing_conv2d():
        graph = torch.fx.symbolic_trace(lambda images: F.conv2d(images, FILTERS))
    assert convgrad_ext.conv2d in [n.target for n in graph.graph.nodes]
    assert_equal(graph(IMAGES), F.conv2d(IMAGES, FILTERS))
