"""replacing_conv2d: every F.conv2d of a block of code runs here, whoever calls it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from one_layer import BIAS, FILTERS, IMAGES, assert_equal, conv, scaled
from spies import OURS, convolutions
from torch import Tensor

import convgrad_ext
from convgrad_ext import replacing_conv2d

ATEN = torch.ops.aten.conv2d


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
    pytest.param(lambda: conv()(IMAGES), id="layer"),
    pytest.param(lambda: conv(padding="same")(IMAGES), id="layer_same"),
    pytest.param(lambda: conv(padding=2, padding_mode="reflect")(IMAGES), id="layer_reflect"),
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
