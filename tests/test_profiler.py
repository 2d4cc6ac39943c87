"""Names by which tools show a convolution: dispatch modes, make_fx, the profiler, the graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

import convgrad_ext

OPS = torch.ops.convgrad_ext
PARAMS: dict[str, Any] = {"stride": 2, "padding": ((1, 0), (0, 2)), "groups": 2}

pytestmark = pytest.mark.usefixtures("recorder")


def operands() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 4, 8, 9), (6, 2, 3, 3), (6,))
    return [torch.randn(s, generator=generator).requires_grad_() for s in sizes]


def training_step(*tensors: Tensor) -> tuple[Tensor, ...]:
    output = convgrad_ext.conv2d(*tensors, **PARAMS)
    return torch.autograd.grad((output**2).sum(), tensors)


class Operators(TorchDispatchMode):
    """The operators of this project, in the order in which they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "convgrad_ext":
            self.called.append(func)
        return func(*args, **(kwargs or {}))


def test_a_dispatch_mode_sees_each_pass_once() -> None:
    with Operators() as seen:
        training_step(*operands())
    assert seen.called == [
        OPS.conv2d.default,
        OPS.conv2d_input.default,
        OPS.conv2d_weight.default,
    ]


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_shows_each_pass_once(mode: str) -> None:
    """The printed graph says which pass it is, and computes what was traced."""
    tensors = operands()
    graph = make_fx(training_step, tracing_mode=mode)(*tensors)
    for name in ("conv2d", "conv2d_input", "conv2d_weight"):
        assert graph.code.count(f"torch.ops.convgrad_ext.{name}.default(") == 1
    for actual, expected in zip(graph(*tensors), training_step(*tensors), strict=True):
        assert torch.equal(actual, expected)


def test_the_profiler_shows_each_pass_with_its_shapes() -> None:
    """Also without gradients, and with other recorded operations in between."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        training_step(*operands())
    shapes = {event.name: event.input_shapes for event in profiled.events()}
    image, kernel, bias, output = [2, 4, 8, 9], [6, 2, 3, 3], [6], [2, 6, 4, 5]
    assert shapes["convgrad_ext::conv2d"][:3] == [image, kernel, bias]
    assert shapes["convgrad_ext::conv2d_input"][:3] == [[], kernel, output]
    assert shapes["convgrad_ext::conv2d_weight"][:3] == [image, [], output]


NODES = {  # by the recorder, for conv2d, conv2d_input and conv2d_weight
    "node": ["Conv2dBackward", "Conv2dInputBackward", "Conv2dWeightBackward"],
    "function": [
        "Conv2dFunctionBackward",
        "Conv2dInputFunctionBackward",
        "Conv2dWeightFunctionBackward",
    ],
}


def test_the_profiler_names_the_backward_pass(recorder: str) -> None:
    """Its row is not that of the passes that it calls, or of PyTorch's ConvolutionBackward."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        training_step(*operands())
    backward = [e.name for e in profiled.events() if e.name.startswith("Conv2d")]
    assert NODES[recorder][0] in backward


def test_a_tensor_names_the_pass_that_made_it(recorder: str) -> None:
    """The name that errors of anomaly mode, torchviz and print(tensor) show."""
    input, weight, _ = operands()
    output = convgrad_ext.conv2d(input, weight, **PARAMS)
    grads = torch.autograd.grad(output.sum(), (input, weight), create_graph=True)
    conv2d, conv2d_input, conv2d_weight = NODES[recorder]
    assert conv2d in repr(output)
    assert [g.grad_fn.name() for g in grads] == [conv2d_input, conv2d_weight]


@pytest.mark.parametrize("name", ["conv2d", "conv2d_input", "conv2d_weight"])
def test_the_operators_say_what_they_take(name: str) -> None:
    """Schemas name the operands as the functions do."""
    operands = {
        "conv2d": ["input", "weight", "bias"],
        "conv2d_input": ["input_size", "weight", "grad_output"],
        "conv2d_weight": ["input", "weight_size", "grad_output"],
    }[name]
    found = [a.name for a in getattr(OPS, name).default._schema.arguments]
    assert found[:7] == [*operands, "stride", "padding", "dilation", "groups"]
