"""revert undoes convert."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_models import images, model, run
from torch import nn
from torch.nn.utils import parametrizations

import convgrad_ext
from convgrad_ext import convert, revert


def test_revert_undoes_convert() -> None:
    module = model()
    before = [(id(layer), type(layer)) for layer in module.modules()]
    expected = run(module.eval(), images())
    assert revert(convert(module)) is module
    assert [(id(layer), type(layer)) for layer in module.modules()] == before
    for actual, value in zip(run(module, images()), expected, strict=True):
        assert torch.equal(actual, value)


def test_revert_takes_layers_that_were_ours_from_the_start() -> None:
    layers = [convgrad_ext.Conv2d(2, 4, 3, padding="same"), convgrad_ext.LazyConv2d(2, 3)]
    module = revert(nn.Sequential(*layers).double())
    assert [type(layer) for layer in module] == [nn.Conv2d, nn.LazyConv2d]
    assert module(images()).shape == (2, 2, 7, 6)
    assert [type(layer) for layer in module] == [nn.Conv2d] * 2


def test_revert_leaves_torchs_layers_alone() -> None:
    module = model()
    before = [type(layer) for layer in module.modules()]
    assert [type(layer) for layer in revert(module).modules()] == before


def test_revert_leaves_subclasses_of_ours_alone() -> None:
    class Mine(convgrad_ext.Conv2d):
        pass

    assert type(revert(Mine(2, 4, 3))) is Mine


BEYOND_TORCH = [
    pytest.param({"padding": ((1, 0), (1, 0))}, "((1, 0), (1, 0))", id="asymmetric"),
    pytest.param({"padding": ((1, 1), (1, 1))}, "((1, 1), (1, 1))", id="pairs_alike"),
    pytest.param({"padding": "same", "stride": 2}, "same", id="same_strided"),
    pytest.param({"padding": "same", "stride": (2,)}, "same", id="same_strided_tuple_of_one"),
    pytest.param(
        {"padding": ((1, 0), (0, 1)), "padding_mode": "reflect"}, "((1, 0), (0, 1))", id="reflect"
    ),
]


@pytest.mark.parametrize(("arguments", "text"), BEYOND_TORCH)
@pytest.mark.parametrize("kind", ["plain", "lazy", "parametrized"])
def test_revert_refuses_padding_that_torch_has_not(arguments: dict, text: str, kind: str) -> None:
    """It names the layer, and the layers before it are not yet changed."""
    if kind == "lazy":
        layer: nn.Module = convgrad_ext.LazyConv2d(4, 3, **arguments)
    else:
        layer = convgrad_ext.Conv2d(4, 4, 3, **arguments)
    if kind == "parametrized":
        layer = parametrizations.weight_norm(layer)
    module = nn.Sequential(convgrad_ext.Conv2d(2, 4, 1), nn.Sequential(nn.ReLU(), layer))
    before = [type(part) for part in module.modules()]
    with pytest.raises(ValueError, match=r"revert: layer '1\.1' has padding=") as refused:
        revert(module)
    assert f"padding={text}, which torch.nn.Conv2d does not take" in str(refused.value)
    assert [type(part) for part in module.modules()] == before


def test_revert_takes_same_padding_without_stride() -> None:
    layer = revert(convgrad_ext.Conv2d(2, 4, 3, padding="same", stride=(1, 1)).double())
    assert type(layer) is nn.Conv2d
    assert layer(images()).shape == (2, 4, 9, 8)


# Errors


@pytest.mark.parametrize("change", [convert, revert])
@pytest.mark.parametrize(
    ("value", "name"),
    [
        pytest.param(None, "NoneType", id="none"),
        pytest.param(torch.ones(1), "Tensor", id="tensor"),
        pytest.param([nn.Conv2d(1, 1, 1)], "list", id="list_of_layers"),
        pytest.param(nn.Conv2d, "type", id="class"),
        pytest.param({"weight": torch.ones(1)}, "dict", id="state"),
    ],
)
def test_only_modules_are_taken(change: Callable, value: Any, name: str) -> None:
    with pytest.raises(TypeError) as refused:
        change(value)
    message = f"{change.__name__}: module must be a torch.nn.Module, but got {name}"
    assert str(refused.value) == message
