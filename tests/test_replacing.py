"""replacing_conv2d: every F.conv2d of a block of code runs here, whoever calls it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spies import OURS, Graphs, convolutions
from tolerance import assert_sums_equal
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import convgrad_ext
from convgrad_ext import replacing_conv2d

ATEN = torch.ops.aten.conv2d


def operand(*size: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(size))
    return torch.randn(size, dtype=torch.float64, generator=generator)


IMAGES, FILTERS, BIAS = operand(2, 4, 9, 8), operand(6, 4, 3, 3), operand(6)


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    """Equal up to rounding: no sum here has more than 200 products of size 10."""
    assert_sums_equal(actual, expected, torch.full_like(expected, 2000.0).abs(), reduction=200)


def layer(**arguments: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, 3, dtype=torch.float64, **arguments)


class Scaled(nn.Conv2d):
    """A forward of its own, which convert does not change."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * F.conv2d(input, self.weight, self.bias)


def scaled() -> Tensor:
    torch.manual_seed(0)
    return Scaled(4, 6, 3, dtype=torch.float64)(IMAGES)


# Calls that are replaced

CALLS = [
    pytest.param(lambda: F.conv2d(IMAGES, FILTERS), id="two_operands"),
    pytest.param(lambda: torch.conv2d(IMAGES, FILTERS, BIAS), id="torch_conv2d"),
    pytest.param(
        lambda: F.conv2d(IMAGES, FILTERS[:, :2], BIAS, 2, 1, 2, 2), id="all_by_their_place"
    ),
    pytest.param(
        lambda: F.conv2d(
            groups=2,
            dilation=(2, 1),
            padding=[1, 2],
            stride=(2,),
            bias=BIAS,
            weight=FILTERS[:, :2],
            input=IMAGES,
        ),
        id="all_by_their_name",
    ),
    pytest.param(lambda: F.conv2d(IMAGES, FILTERS, None, padding=1), id="no_bias"),
    pytest.param(lambda: F.conv2d(IMAGES, FILTERS, BIAS, 1, "same"), id="same"),
    pytest.param(lambda: F.conv2d(IMAGES, FILTERS, padding="valid", stride=2), id="valid"),
    pytest.param(lambda: F.conv2d(IMAGES[0], FILTERS, BIAS), id="one_image"),
    pytest.param(lambda: F.conv2d(IMAGES[:0], FILTERS, BIAS), id="no_image"),
    pytest.param(lambda: layer()(IMAGES), id="layer"),
    pytest.param(lambda: layer(padding="same")(IMAGES), id="layer_same"),
    pytest.param(lambda: layer(padding=2, padding_mode="reflect")(IMAGES), id="layer_reflect"),
    pytest.param(scaled, id="subclass_with_its_own_forward"),
    pytest.param(lambda: ATEN(IMAGES, FILTERS, BIAS), id="operator"),
    pytest.param(lambda: ATEN.default(IMAGES, FILTERS, None, [2, 1]), id="operator_default"),
    pytest.param(lambda: ATEN.padding(IMAGES, FILTERS, BIAS, [1, 1], "same"), id="operator_same"),
]


@pytest.mark.parametrize("call", CALLS)
def test_every_form_of_the_call_runs_here(call: Callable[[], Tensor]) -> None:
    expected = call()
    with replacing_conv2d():
        assert_equal(call(), expected)
        assert convolutions(call) == [OURS]


@pytest.mark.parametrize(
    ("call", "operator"),
    [
        pytest.param(
            lambda: F.conv1d(IMAGES[0, :, 0], FILTERS[:, :, 0]), "aten::convolution", id="1d"
        ),
        pytest.param(
            lambda: F.conv_transpose2d(IMAGES, FILTERS[:4]), "aten::convolution", id="transposed"
        ),
        pytest.param(
            lambda: torch.convolution(
                IMAGES, FILTERS, BIAS, (1, 1), (0, 0), (1, 1), False, (0, 0), 1
            ),
            "aten::convolution",
            id="operator_of_all_dimensions",
        ),
        pytest.param(lambda: convgrad_ext.conv2d(IMAGES, FILTERS), OURS, id="ours"),
    ],
)
def test_other_functions_are_called_as_they_are(call: Callable, operator: str) -> None:
    expected = call()
    with replacing_conv2d():
        assert torch.equal(call(), expected)
        assert convolutions(call) == [operator]


def test_gradients_are_ours_also_after_the_block() -> None:
    leaves = [t.clone().requires_grad_() for t in (IMAGES, FILTERS, BIAS)]
    expected = torch.autograd.grad(F.conv2d(*leaves).square().sum(), leaves)
    with replacing_conv2d():
        loss = F.conv2d(*leaves).square().sum()
    gradients: list[Tensor] = []
    run = convolutions(lambda: gradients.extend(torch.autograd.grad(loss, leaves)))
    assert run == [f"{OURS}_input", f"{OURS}_weight"]
    for actual, value in zip(gradients, expected, strict=True):
        torch.testing.assert_close(actual, value, rtol=1e-10, atol=1e-10)


def test_differences_are_ours() -> None:
    """'same' of a strided convolution, which PyTorch refuses."""
    with pytest.raises(RuntimeError, match="not supported for strided"):
        F.conv2d(IMAGES, FILTERS, padding="same", stride=2)
    with replacing_conv2d():
        assert F.conv2d(IMAGES, FILTERS, padding="same", stride=2).shape == (2, 6, 5, 4)


# Calls that are refused


class Named(Tensor):
    """A tensor that implements PyTorch's conv2d, and no other function."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return "theirs" if func is F.conv2d else NotImplemented


def test_a_call_that_is_not_taken_does_not_go_to_pytorch() -> None:
    images = IMAGES.as_subclass(Named)
    assert F.conv2d(images, FILTERS) == "theirs"
    with replacing_conv2d(), pytest.raises(TypeError, match=r"convgrad_ext\.functional\.conv2d"):
        F.conv2d(images, FILTERS)


def test_a_dtype_that_is_not_taken_raises_as_ours_does() -> None:
    images, weight = IMAGES.to(torch.float8_e5m2), FILTERS.to(torch.float8_e5m2)
    with pytest.raises(NotImplementedError) as ours:
        convgrad_ext.conv2d(images, weight)
    with replacing_conv2d(), pytest.raises(NotImplementedError) as replaced:
        F.conv2d(images, weight)
    assert str(replaced.value) == str(ours.value)


def test_shapes_that_do_not_match_are_refused() -> None:
    with pytest.raises(RuntimeError) as theirs:
        F.conv2d(IMAGES, FILTERS[:, :3])
    with replacing_conv2d(), pytest.raises(RuntimeError) as ours:
        F.conv2d(IMAGES, FILTERS[:, :3])
    assert str(ours.value) == str(theirs.value)


def test_subclasses_of_tensor_keep_their_class() -> None:
    class Image(Tensor):
        """It computes the same as every tensor, under its own name."""

    call = lambda: F.conv2d(IMAGES.as_subclass(Image), FILTERS)  # noqa: E731
    with replacing_conv2d():
        assert type(call()) is Image
        assert convolutions(call) == [OURS]


# How long it lasts


def theirs_runs() -> bool:
    return convolutions(lambda: F.conv2d(IMAGES, FILTERS)) == ["aten::convolution"]


def test_the_block_ends() -> None:
    with replacing_conv2d():
        assert not theirs_runs()
    assert theirs_runs()


def test_the_block_ends_with_an_error() -> None:
    with pytest.raises(ZeroDivisionError), replacing_conv2d():
        raise ZeroDivisionError
    assert theirs_runs()


@pytest.mark.parametrize("same", [True, False], ids=["one_object", "two_objects"])
def test_blocks_inside_one_another(same: bool) -> None:
    outer = replacing_conv2d()
    with outer:
        with outer if same else replacing_conv2d():
            assert not theirs_runs()
        assert not theirs_runs()
    assert theirs_runs()


def test_as_a_decorator() -> None:
    @replacing_conv2d()
    def runs_theirs(depth: int) -> list[bool]:
        """It calls itself, so the block is entered inside itself."""
        return [theirs_runs(), *(runs_theirs(depth - 1) if depth else [])]

    assert runs_theirs(2) == [False] * 3
    assert theirs_runs()


def generator() -> Iterator[Tensor]:
    yield F.conv2d(IMAGES, FILTERS)


async def coroutine() -> Tensor:
    return F.conv2d(IMAGES, FILTERS)


async def stream() -> Any:
    yield F.conv2d(IMAGES, FILTERS)


@pytest.mark.parametrize("later", [generator, coroutine, stream])
def test_a_decorator_refuses_functions_that_run_later(later: Callable) -> None:
    """They would run outside of the block, on PyTorch's loops."""
    with pytest.raises(TypeError, match=f"replacing_conv2d: {later.__name__} is a generator or"):
        replacing_conv2d()(later)


def test_other_threads_are_left_alone() -> None:
    found = []
    with replacing_conv2d():
        thread = threading.Thread(target=lambda: found.append(theirs_runs()))
        thread.start()
        thread.join()
    assert found == [True]


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
    graphs, module = Graphs(), layer()
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
    module = layer()
    with replacing_conv2d():
        program = torch.export.export(module, (IMAGES,), strict=strict)
    assert torch.ops.convgrad_ext.conv2d.default in [n.target for n in program.graph.nodes]
    assert_equal(program.module()(IMAGES), module(IMAGES))


def test_exported_before_and_run_inside() -> None:
    module = layer(padding="same")
    program = torch.export.export(module, (IMAGES,)).module()
    with replacing_conv2d():
        assert convolutions(lambda: program(IMAGES)) == [OURS]
        assert_equal(program(IMAGES), module(IMAGES))


def test_fx_records_our_function() -> None:
    with replacing_conv2d():
        graph = torch.fx.symbolic_trace(lambda images: F.conv2d(images, FILTERS))
    assert convgrad_ext.conv2d in [n.target for n in graph.graph.nodes]
    assert_equal(graph(IMAGES), F.conv2d(IMAGES, FILTERS))
