"""convert and revert of layers whose weight is computed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from small_models import Plain, assert_same_run, images, run
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import convgrad_ext
from convgrad_ext import convert, revert

PARAMETRIZATIONS = [
    pytest.param(parametrizations.weight_norm, id="weight_norm"),
    pytest.param(parametrizations.spectral_norm, id="spectral_norm"),
    pytest.param(parametrizations.orthogonal, id="orthogonal"),
]


def parametrized(register: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """In eval mode, where spectral_norm's estimate does not change."""
    torch.manual_seed(0)
    return nn.Sequential(register(nn.Conv2d(2, 4, 3, dtype=torch.float64)), nn.Tanh()).eval()


@pytest.mark.parametrize("register", PARAMETRIZATIONS)
def test_parametrized_layers_are_converted(register: Callable) -> None:
    module = parametrized(register)
    expected = run(module, images())
    parameters = [id(p) for p in module.parameters()]
    text = repr(module)
    convert(module)
    assert isinstance(module[0], convgrad_ext.Conv2d)
    assert parametrize.is_parametrized(module[0], "weight")
    assert [id(p) for p in module.parameters()] == parameters
    assert repr(module) == text
    assert_same_run(run(module, images()), expected)


@pytest.mark.parametrize("register", PARAMETRIZATIONS)
def test_parametrized_layers_are_reverted(register: Callable) -> None:
    module = parametrized(register)
    expected = run(module, images())
    revert(convert(module))
    assert not isinstance(module[0], convgrad_ext.Conv2d)
    assert parametrize.is_parametrized(module[0], "weight")
    assert_same_run(run(module, images()), expected)


@pytest.mark.parametrize(
    "change", [convert, lambda m: revert(convert(m))], ids=["convert", "revert"]
)
@pytest.mark.parametrize("register", PARAMETRIZATIONS)
def test_parametrizations_can_be_removed_afterwards(register: Callable, change: Callable) -> None:
    module = parametrized(register)
    expected = module(images())
    wanted = convgrad_ext.Conv2d if change is convert else nn.Conv2d
    change(module)
    parametrize.remove_parametrizations(module[0], "weight")
    assert type(module[0]) is wanted
    assert list(module[0].state_dict()) == ["bias", "weight"]
    assert_same_run([module(images())], [expected])


@pytest.mark.parametrize("register", PARAMETRIZATIONS)
def test_parametrized_layers_convert_once(register: Callable) -> None:
    module = convert(parametrized(register))
    before = type(module[0]).__mro__
    assert before[1] is convgrad_ext.Conv2d
    assert type(convert(module)[0]).__mro__ == before


@pytest.mark.parametrize("register", PARAMETRIZATIONS)
def test_parametrized_layers_are_copied(register: Callable) -> None:
    """By deepcopy; PyTorch refuses to pickle them, converted or not."""
    module = convert(parametrized(register))
    assert_same_run(run(copy.deepcopy(module), images()), run(module, images()))


def test_parametrized_copies_convert_on_their_own() -> None:
    """A layer and its copy share the class that parametrize made for them."""
    module = parametrized(parametrizations.weight_norm)
    other = copy.deepcopy(module)
    expected = other(images())
    convert(module)
    assert not isinstance(other[0], convgrad_ext.Conv2d)
    assert torch.equal(other(images()), expected)


def test_parametrized_subclasses_are_left_alone() -> None:
    module = parametrizations.weight_norm(Plain(2, 4, 3))
    before = type(module)
    assert type(convert(module)) is before


def test_two_parametrized_tensors() -> None:
    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    layer = nn.Conv2d(2, 4, 3, dtype=torch.float64)
    for name in ("weight", "bias"):
        parametrize.register_parametrization(layer, name, Double())
    expected = run(layer, images())
    assert_same_run(run(convert(layer), images()), expected)


def test_pruned_layers_are_converted() -> None:
    layer = nn.Conv2d(2, 4, 3, dtype=torch.float64)
    prune.l1_unstructured(layer, "weight", amount=0.5)
    expected = run(layer, images())
    assert_same_run(run(convert(layer), images()), expected)
    prune.remove(layer, "weight")
    assert_same_run([layer(images())], expected[:1])
