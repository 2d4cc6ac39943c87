"""Both ways to record plain reverse mode: csrc/autograd_node.cpp and the autograd Functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import convgrad_ext
from convgrad_ext import _C
from convgrad_ext.cases import CASES, Case

ALL_NAMES = ("input", "weight", "bias")
SUBSETS = [names for n in (1, 2, 3) for names in combinations(ALL_NAMES, n)]
OPS = torch.ops.convgrad_ext
NODE, FUNCTION = "Conv2dBackward", "Conv2dFunctionBackward"


@contextmanager
def recorded_in_python() -> Iterator[None]:
    before = _C.record_in_python(True)
    yield
    _C.record_in_python(before)


def operands(*, requires_grad: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    input, weight, bias = (
        torch.randn(size, generator=generator).requires_grad_(requires_grad)
        for size in ((2, 2, 5, 6), (3, 2, 3, 2), (3,))
    )
    return input, weight, bias


# They agree


def three_orders(case: Case, wanted: tuple[str, ...], dtype: torch.dtype, layout: Any) -> Any:
    """The output and the derivatives of three orders of a loss that has no order of zeros."""
    tensors = dict(zip(ALL_NAMES, case.tensors(dtype), strict=True))
    for name in ("input", "weight"):
        tensors[name] = tensors[name].to(memory_format=layout)
    leaves = [tensors[name].requires_grad_() for name in wanted]
    results = [convgrad_ext.conv2d(**tensors, **case.params)]
    last = results
    for _ in range(3):
        loss = torch.stack([(t * t * t.conj()).abs().sum() for t in last]).sum()
        last = list(torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True))
        results += last
    return results


@pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"]
)
@pytest.mark.parametrize("wanted", SUBSETS, ids="+".join)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_they_agree_bit_for_bit(case: Case, wanted: tuple[str, ...], layout: Any) -> None:
    """Outputs, gradients, their gradients and the gradients of these; strides too."""
    nodes = three_orders(case, wanted, torch.float64, layout)
    with recorded_in_python():
        functions = three_orders(case, wanted, torch.float64, layout)
    assert nodes[0].grad_fn.name() == NODE or case.N == 0
    for node, function in zip(nodes, functions, strict=True):
        assert torch.equal(node, function)
        assert node.stride() == function.stride()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex128], ids=str)
def test_they_agree_in_every_kind_of_number(dtype: torch.dtype) -> None:
    """float32 has tiles of its own, bfloat16 rounds, complex conjugates."""
    (case,) = (case for case in CASES if case.name == "grouped")
    nodes = three_orders(case, ALL_NAMES, dtype, torch.contiguous_format)
    with recorded_in_python():
        functions = three_orders(case, ALL_NAMES, dtype, torch.contiguous_format)
    assert all(map(torch.equal, nodes, functions))


def test_they_agree_where_an_input_has_no_channels() -> None:
    """The output then has none either, but the bias has: its gradient is zeros."""
    input, weight = torch.ones(1, 0, 3, 3), torch.ones(2, 0, 2, 2)
    for recorder in (nullcontext, recorded_in_python):
        bias = torch.ones(2, requires_grad=True)
        with recorder():
            convgrad_ext.conv2d(input, weight, bias).sum().backward()
        assert torch.equal(bias.grad, torch.zeros(2))


# Who records


class Subclass(Tensor):
    """A tensor of another class, which autograd knows nothing about."""


class Mode(TorchDispatchMode):
    """Sees the operators of this project."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "convgrad_ext":
            self.called.append(func.overloadpacket)
        return func(*args, **(kwargs or {}))


def test_plain_tensors_are_recorded_by_the_node() -> None:
    assert convgrad_ext.conv2d(*operands()).grad_fn.name() == NODE


def test_parameters_are_plain_tensors() -> None:
    layer = convgrad_ext.Conv2d(2, 3, 3)
    assert layer(operands()[0]).grad_fn.name() == NODE


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap], ids=lambda f: f.__name__)
def test_levels_of_torch_func_are_recorded_by_the_node(transform: Any) -> None:
    """Of reverse mode: the level of grad inside, with and without another one around it."""
    input, weight, bias = operands(requires_grad=False)
    seen = []

    def loss(weight: Tensor, image: Tensor) -> Tensor:
        output = convgrad_ext.conv2d(image[None], weight, bias)
        seen.append(output.grad_fn.name())
        return output.sum()

    gradient = torch.func.grad(loss)
    if transform is torch.func.vmap:
        torch.func.vmap(gradient, in_dims=(None, 0))(weight, input)
    else:
        torch.func.grad(lambda w: gradient(w, input[0]).square().sum())(weight)
    assert seen == [NODE]


def test_a_switch_leaves_all_to_python() -> None:
    with recorded_in_python():
        assert convgrad_ext.conv2d(*operands()).grad_fn.name() == FUNCTION


def test_a_dispatch_mode_is_left_to_python() -> None:
    """make_fx, and torch.compile below it, trace in such modes."""
    with Mode():
        assert convgrad_ext.conv2d(*operands()).grad_fn.name() == FUNCTION


def test_fake_tensors_are_left_to_python() -> None:
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(t) for t in operands()]
        assert convgrad_ext.conv2d(*fakes).grad_fn.name() == FUNCTION


def test_a_tangent_is_left_to_python() -> None:
    with forward_ad.dual_level():
        input, weight, bias = operands()
        dual = forward_ad.make_dual(input, torch.ones_like(input))
        assert convgrad_ext.conv2d(dual, weight, bias).grad_fn.name() == FUNCTION


def test_a_class_without_dispatch_of_its_own_stays_what_it_is() -> None:
    input, weight, bias = operands()
    output = convgrad_ext.conv2d(input.as_subclass(Subclass), weight, bias)
    assert type(output) is Subclass
    assert output.grad_fn is not None


# What a node does beyond values


@pytest.mark.usefixtures("recorder")
def test_a_changed_operand_is_refused() -> None:
    input, weight, bias = operands()
    changed = weight * 1
    output = convgrad_ext.conv2d(input, changed, bias)
    changed.add_(1)
    with pytest.raises(RuntimeError, match=r"by an inplace operation.* expected version 0"):
        output.sum().backward()


@pytest.mark.usefixtures("recorder")
def test_a_second_backward_is_refused() -> None:
    output = convgrad_ext.conv2d(*operands()).sum()
    output.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        output.backward()


@pytest.mark.usefixtures("recorder")
def test_a_kept_graph_runs_twice() -> None:
    input, weight, bias = operands()
    output = convgrad_ext.conv2d(input, weight, bias).sum()
    output.backward(retain_graph=True)
    once = weight.grad.clone()
    output.backward()
    assert torch.equal(weight.grad, 2 * once)


@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize("use_reentrant", [False, True], ids=["hooks", "reentrant"])
def test_a_checkpoint_computes_it_anew(use_reentrant: bool) -> None:
    input, weight, bias = operands()

    def run() -> Tensor:
        return convgrad_ext.conv2d(input * 2, weight, bias).sin()

    def gradients(output: Tensor) -> list[Tensor]:
        for leaf in (input, weight, bias):
            leaf.grad = None
        output.sum().backward()
        return [input.grad, weight.grad, bias.grad]

    plain = gradients(run())
    through = gradients(
        checkpoint(
            lambda x: convgrad_ext.conv2d(x * 2, weight, bias).sin(),
            input,
            use_reentrant=use_reentrant,
        )
    )
    assert all(map(torch.equal, plain, through))


@pytest.mark.usefixtures("recorder")
def test_inference_tensors_are_not_saved() -> None:
    with torch.inference_mode():
        input = torch.ones(1, 2, 5, 5)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        convgrad_ext.conv2d(input, operands()[1])


@pytest.mark.parametrize(
    ("asked", "called"),
    [
        pytest.param("input", [OPS.conv2d_input], id="input"),
        pytest.param("weight", [OPS.conv2d_weight], id="weight"),
        pytest.param("bias", [], id="bias: a sum, no pass"),
    ],
)
def test_a_node_computes_the_asked_gradient_alone(asked: str, called: list[Any]) -> None:
    """Although every operand requires one: torch.autograd.grad names those that it returns."""
    leaves = dict(zip(ALL_NAMES, operands(), strict=True))
    output = convgrad_ext.conv2d(**leaves)
    with Mode() as seen:
        torch.autograd.grad(output.sum(), leaves[asked])
    assert seen.called == called


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # the compiler looks at it
@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize("wanted", [ALL_NAMES, ("weight",)], ids="+".join)
def test_compiled_autograd_has_the_same_gradients(wanted: tuple[str, ...]) -> None:
    """The graph of a backward, captured and run again with other numbers."""
    tensors = dict(zip(ALL_NAMES, operands(requires_grad=False), strict=True))
    leaves = [tensors[name].requires_grad_() for name in wanted]

    def loss(scale: float) -> Tensor:
        return (convgrad_ext.conv2d(**tensors) ** 2 * scale).sum()

    expected = [torch.autograd.grad(loss(scale), leaves) for scale in (1.0, 3.0)]
    enable: Callable[..., Any] = torch._dynamo.compiled_autograd._enable
    with enable(torch.compile(backend="aot_eager")):
        for gradients, scale in zip(expected, (1.0, 3.0), strict=True):
            for leaf in leaves:
                leaf.grad = None
            loss(scale).backward()
            for leaf, gradient in zip(leaves, gradients, strict=True):
                torch.testing.assert_close(leaf.grad, gradient)
    torch._dynamo.reset()
