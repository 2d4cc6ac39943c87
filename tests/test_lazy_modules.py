"""LazyConv2d takes the place of torch.nn's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conv_layers import (
    IMAGES,
    assert_same_run,
    built,
    images,
)
from refusals import error_of
from torch import nn
from torch.nn.parameter import UninitializedParameter

import convgrad_ext


def lazy(layer: type[nn.Module] = convgrad_ext.LazyConv2d, **arguments: Any) -> Any:
    return layer(6, kernel_size=3, dtype=torch.float64, **arguments)


def test_lazy_layer_has_no_values_before_its_first_input() -> None:
    layer = lazy()
    assert layer.has_uninitialized_params()
    assert isinstance(layer.weight, UninitializedParameter)
    assert isinstance(layer.bias, UninitializedParameter)
    assert layer.in_channels == 0


def test_lazy_layer_becomes_ours() -> None:
    layer = lazy(stride=2, padding=1, groups=2)
    weight = layer.weight
    layer(images())
    assert type(layer) is convgrad_ext.Conv2d
    assert (layer.in_channels, layer.weight.shape) == (4, (6, 2, 3, 3))
    assert layer.weight is weight
    assert not layer._forward_pre_hooks


@pytest.mark.parametrize("size", [IMAGES, IMAGES[1:]], ids=["batch", "one_image"])
def test_lazy_layer_draws_torchs_initial_values(size: tuple[int, ...]) -> None:
    layers = []
    for kind in (convgrad_ext.LazyConv2d, nn.LazyConv2d):
        torch.manual_seed(0)
        layer = lazy(kind, padding=1)
        layer(images(*size))
        layers.append(layer)
    ours, theirs = layers
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)
    assert_same_run(ours, theirs)


def test_lazy_layer_takes_its_shape_from_a_state() -> None:
    source, ours, theirs = built(nn.Conv2d), lazy(), lazy(nn.LazyConv2d)
    ours.load_state_dict(source.state_dict())
    theirs.load_state_dict(source.state_dict())
    assert not ours.has_uninitialized_params()
    assert_same_run(ours, theirs)
    assert type(ours) is convgrad_ext.Conv2d


def converted_lazy(**arguments: Any) -> nn.Module:
    return convgrad_ext.convert(lazy(nn.LazyConv2d, **arguments))


def in_a_model(**arguments: Any) -> nn.Module:
    return nn.Sequential(lazy(**arguments))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("assign", [False, True], ids=["copied", "assigned"])
@pytest.mark.parametrize("made", [lazy, converted_lazy, in_a_model])
def test_lazy_layer_knows_its_channels_from_a_state(made: Any, assign: bool, groups: int) -> None:
    """At once, and after its first call. That of torch stays 0."""
    source, made_layer = built(nn.Conv2d, groups=groups), made(groups=groups)
    layer = next(m for m in made_layer.modules() if isinstance(m, nn.Conv2d))
    prefix = "0." if layer is not made_layer else ""
    state = {prefix + name: value for name, value in source.state_dict().items()}
    made_layer.load_state_dict(state, assign=assign)
    assert layer.in_channels == 4
    layer(images())
    assert repr(layer) == repr(source)


def test_lazy_layer_knows_no_channels_from_a_lazy_state() -> None:
    layer = lazy()
    layer.load_state_dict(lazy().state_dict())
    assert (layer.in_channels, layer.has_uninitialized_params()) == (0, True)
    layer(images())
    assert layer.in_channels == 4


def test_lazy_state_goes_to_a_lazy_layer() -> None:
    theirs = lazy(nn.LazyConv2d)
    theirs.load_state_dict(lazy().state_dict())
    assert theirs.has_uninitialized_params()


@pytest.mark.parametrize("arguments", [{}, {"stride": 2, "padding": 1, "bias": False}], ids=str)
def test_lazy_layer_has_torchs_repr(arguments: dict[str, Any]) -> None:
    ours, theirs = lazy(**arguments), lazy(nn.LazyConv2d, **arguments)
    assert repr(ours) == repr(theirs)
    ours(images())
    theirs(images())
    assert repr(ours) == repr(theirs)


def test_lazy_layer_is_a_torch_layer() -> None:
    assert isinstance(lazy(), nn.LazyConv2d)
    assert isinstance(lazy(), convgrad_ext.Conv2d)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"padding": ((1, 0), (2, 3))}, id="asymmetric"),
        pytest.param({"padding": "same", "stride": 2}, id="same_strided"),
        pytest.param({"padding": ((1, 0), (2, 3)), "padding_mode": "circular"}, id="circular"),
    ],
)
def test_lazy_layer_takes_padding_beyond_torchs(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = lazy(**arguments)
    layer(images())
    expected = built(convgrad_ext.Conv2d, **arguments)
    expected.load_state_dict(layer.state_dict())
    assert repr(layer) == repr(expected)
    assert_same_run(layer, expected)


@pytest.mark.parametrize("size", [(9, 8), (1, 2, 4, 9, 8)], ids=["rank_2", "rank_5"])
def test_lazy_layer_refuses_as_torchs(size: tuple[int, ...]) -> None:
    theirs = error_of(lazy(nn.LazyConv2d), images(*size))
    assert error_of(lazy(), images(*size)) == theirs
