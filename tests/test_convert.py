"""convert: a model changes its convolutions' class and keeps everything else."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_models import CONVERTED, Model, Plain, assert_same_run, images, model, run
from torch import nn

import convgrad_ext
from convgrad_ext import convert, revert

# Layers that are converted


def test_every_convolution_is_converted_wherever_it_is() -> None:
    module = model()
    before = {name: type(layer) for name, layer in module.named_modules(remove_duplicate=False)}
    assert convert(module) is module
    after = {name: type(layer) for name, layer in module.named_modules(remove_duplicate=False)}
    assert {name for name in before if after[name] is convgrad_ext.Conv2d} == set(CONVERTED)
    assert all(after[name] is before[name] for name in before if name not in CONVERTED)


def test_a_single_layer_is_converted() -> None:
    layer = nn.Conv2d(2, 4, 3)
    assert convert(layer) is layer
    assert type(layer) is convgrad_ext.Conv2d


def test_a_model_without_convolutions_stays() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert [type(layer) for layer in convert(module)] == [nn.Linear, nn.ReLU]


def test_subclasses_are_left_alone() -> None:
    module = model()
    assert type(convert(module).subclass) is Plain


def test_a_layer_used_twice_stays_one() -> None:
    module = convert(model())
    assert module.shared is module.again[0]


def test_lazy_layers_are_converted() -> None:
    module = convert(nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyConv2d(2, 3)).double())
    assert [type(layer) for layer in module] == [convgrad_ext.LazyConv2d] * 2
    assert module(images()).shape == (2, 2, 5, 4)
    assert [type(layer) for layer in module] == [convgrad_ext.Conv2d] * 2


def test_lazy_layers_draw_the_same_values_converted() -> None:
    layers = []
    for change in (convert, lambda layer: layer):
        torch.manual_seed(0)
        layer = change(nn.LazyConv2d(4, 3, dtype=torch.float64))
        layer(images())
        layers.append(layer)
    assert torch.equal(layers[0].weight, layers[1].weight)


def test_converting_twice_is_converting_once() -> None:
    module = convert(model())
    before = [(id(layer), type(layer)) for layer in module.modules()]
    assert [(id(layer), type(layer)) for layer in convert(module).modules()] == before


# Properties that stay


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"stride": 2, "padding": 1}, id="strided"),
        pytest.param({"dilation": 2, "groups": 2}, id="dilated_and_grouped"),
        pytest.param({"padding": "same"}, id="same"),
        pytest.param({"padding": 2, "padding_mode": "reflect"}, id="reflect"),
        pytest.param({"padding": (1, 2), "padding_mode": "circular", "bias": False}, id="circular"),
    ],
)
def test_a_layer_computes_the_same(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, dtype=torch.float64, **arguments)
    expected = run(layer, images(2, 4, 9, 8))
    text = repr(layer)
    assert_same_run(run(convert(layer), images(2, 4, 9, 8)), expected)
    assert repr(layer) == text
    assert_same_run(run(revert(layer), images(2, 4, 9, 8)), expected)


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_a_model_computes_the_same(training: bool) -> None:
    expected = run(model().train(training), images())
    assert_same_run(run(convert(model().train(training)), images()), expected)


def test_conversion_runs_on_our_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons above would also pass if nothing was converted."""
    called = []
    ours = convgrad_ext.conv2d
    monkeypatch.setattr("convgrad_ext.modules.conv2d", lambda *a: called.append(1) or ours(*a))
    convert(model())(images())
    assert len(called) == len(CONVERTED)


def test_modules_parameters_and_buffers_are_the_same_objects() -> None:
    module = model()

    def objects() -> list[tuple[str, int]]:
        named = (*module.named_modules(), *module.named_parameters(), *module.named_buffers())
        return [(name, id(thing)) for name, thing in named]

    before = objects()
    convert(module)
    assert objects() == before


def test_flags_stay() -> None:
    """Layers that are frozen, or evaluated while others train."""
    module = model()
    module.stem.eval()
    module.shared.weight.requires_grad_(False)
    convert(module)
    assert [module.stem.training, module.shared.training] == [False, True]
    assert [module.stem.weight.requires_grad, module.shared.weight.requires_grad] == [True, False]


def test_attributes_of_ones_own_stay() -> None:
    layer = nn.Conv2d(2, 4, 3)
    layer.note = "mine"
    layer.register_buffer("scale", torch.ones(1))
    convert(layer)
    assert layer.note == "mine"
    assert "scale" in layer.state_dict()


def test_gradients_already_there_stay() -> None:
    module = model()
    module(images()).sum().backward()
    before = module.stem.weight.grad
    assert convert(module).stem.weight.grad is before


@pytest.mark.parametrize(
    "register",
    [
        "register_forward_pre_hook",
        "register_forward_hook",
        "register_full_backward_pre_hook",
        "register_full_backward_hook",
    ],
)
def test_hooks_stay(register: str) -> None:
    called = []
    module = model()
    handle = getattr(module.stem, register)(lambda *args: called.append(type(args[0])))
    convert(module)(images().requires_grad_()).sum().backward()
    assert called == [convgrad_ext.Conv2d]
    handle.remove()
    module(images()).sum().backward()
    assert len(called) == 1


def test_hooks_may_change_the_output() -> None:
    layer = nn.Conv2d(2, 4, 3).double()
    layer.register_forward_hook(lambda module, args, output: output * 0)
    assert not convert(layer)(images()).any()


def test_state_goes_both_ways() -> None:
    module, plain = convert(model()), Model().double()
    assert list(module.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(module.state_dict(), strict=True)
    assert_same_run(run(plain, images()), run(module, images()))
    module.load_state_dict(plain.state_dict(), strict=True)


def test_an_optimizer_built_before_goes_on() -> None:
    """Its momentum belongs to the parameters, which stay the same."""

    def trained(change: Callable[[nn.Module], nn.Module]) -> nn.Module:
        module = model()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
        for step in range(4):
            if step == 2:
                change(module)
            optimizer.zero_grad()
            module(images()).square().mean().backward()
            optimizer.step()
        return module

    ours, theirs = trained(convert), trained(lambda module: module)
    assert type(ours.stem) is convgrad_ext.Conv2d
    start = model().stem.weight
    assert not torch.equal(ours.stem.weight, start)
    for actual, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def through_pickle(module: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(module))


def through_a_file(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle, through_a_file])
def test_converted_models_are_copied(copied: Callable[[nn.Module], nn.Module]) -> None:
    module = convert(model()).eval()
    expected = run(module, images())
    other = copied(module)
    assert type(other.stem) is convgrad_ext.Conv2d
    with torch.no_grad():
        module.stem.weight.zero_()
    for actual, value in zip(run(other, images()), expected, strict=True):
        assert torch.equal(actual, value)
