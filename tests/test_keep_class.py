"""convert(keep_class=True): layers of the class torch.nn.Conv2d that run here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kept_layers import kept, model, runs_here
from one_layer import IMAGES, assert_equal, conv
from spies import OURS, Graphs, convolutions
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import convgrad_ext
from convgrad_ext import convert, revert

# Changes


def test_every_layer_runs_here_and_keeps_its_class() -> None:
    module = model()
    expected = module(IMAGES)
    classes = [type(layer) for layer in module.modules()]
    assert convert(module, keep_class=True) is module
    assert [type(layer) for layer in module.modules()] == classes
    assert convolutions(lambda: module(IMAGES)) == [OURS, OURS]
    assert_equal(module(IMAGES), expected)


ARGUMENTS = [
    pytest.param({"stride": 2, "padding": 1}, id="strided"),
    pytest.param({"dilation": 2, "groups": 2, "bias": False}, id="dilated_and_grouped"),
    pytest.param({"padding": "same"}, id="same"),
    pytest.param({"padding": "valid", "stride": 2}, id="valid"),
    pytest.param({"padding": 2, "padding_mode": "reflect"}, id="reflect"),
    pytest.param({"padding": "same", "padding_mode": "replicate"}, id="same_replicate"),
    pytest.param({"padding": (1, 2), "padding_mode": "circular"}, id="circular"),
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_a_layer_computes_the_same(arguments: dict[str, Any]) -> None:
    theirs, ours = conv(**arguments), kept(**arguments)
    output, expected = ours(IMAGES), theirs(IMAGES)
    assert_equal(output, expected)
    gradients = torch.autograd.grad(output.square().sum(), tuple(ours.parameters()))
    wanted = torch.autograd.grad(expected.square().sum(), tuple(theirs.parameters()))
    for actual, value in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(actual, value, rtol=1e-10, atol=1e-10)


def test_one_image() -> None:
    assert_equal(kept()(IMAGES[0]), conv()(IMAGES[0]))


def test_parameters_and_state_and_text_stay() -> None:
    layer = conv()
    parameters, state, text = list(layer.parameters()), list(layer.state_dict()), repr(layer)
    convert(layer, keep_class=True)
    assert all(a is b for a, b in zip(layer.parameters(), parameters, strict=True))
    assert list(layer.state_dict()) == state
    assert repr(layer) == text
    conv().load_state_dict(layer.state_dict())


def test_settings_may_change_on_a_living_layer() -> None:
    layers = conv(padding=1, padding_mode="circular"), kept(padding=1, padding_mode="circular")
    for layer in layers:
        layer.stride = (2, 1)
        layer._reversed_padding_repeated_twice = [2, 0, 0, 3]  # tiles in one direction
    assert_equal(layers[1](IMAGES), layers[0](IMAGES))
    for layer in layers:
        layer.padding_mode, layer.padding = "zeros", (0, 2)
    assert_equal(layers[1](IMAGES), layers[0](IMAGES))


def test_hooks_stay() -> None:
    called = []
    layer = conv()
    layer.register_forward_hook(lambda module, args, output: called.append(type(module)))
    convert(layer, keep_class=True)(IMAGES)
    assert called == [nn.Conv2d]


# Which layers


def test_lazy_layers_become_conv2d_and_run_here() -> None:
    layer = convert(nn.LazyConv2d(6, 3, padding=1, dtype=torch.float64), keep_class=True)
    assert type(layer) is nn.LazyConv2d
    torch.manual_seed(0)  # the first call draws the weight
    output = layer(IMAGES)
    assert type(layer) is nn.Conv2d
    assert runs_here(layer)
    assert_equal(output, conv(padding=1)(IMAGES))


def test_subclasses_are_left_alone() -> None:
    class Plain(nn.Conv2d):
        """It may have a forward of its own."""

    layer = convert(Plain(4, 6, 3).double(), keep_class=True)
    assert not runs_here(layer)


def test_layers_of_ours_stay_of_our_class() -> None:
    layer = convgrad_ext.Conv2d(4, 6, 3, padding=((1, 0), (0, 2)), dtype=torch.float64)
    expected = layer(IMAGES)
    assert type(convert(layer, keep_class=True)) is convgrad_ext.Conv2d
    assert torch.equal(layer(IMAGES), expected)


def test_a_forward_that_somebody_else_gave_is_left_alone() -> None:
    """Libraries do so to pad differently. Ours in its place would silently undo it."""
    layer = conv()
    layer._conv_forward = lambda input, weight, bias: F.conv2d(input, 2 * weight)
    expected = layer(IMAGES)
    convert(layer, keep_class=True)
    assert torch.equal(layer(IMAGES), expected)
    revert(layer)
    assert torch.equal(layer(IMAGES), expected)


# Again, and back


def test_converting_twice_is_converting_once() -> None:
    layer = kept()
    before = dict(vars(layer))
    convert(layer, keep_class=True)
    assert vars(layer) == before


def test_revert_undoes_it() -> None:
    module = model()
    before = [set(vars(layer)) for layer in module.modules()]
    expected = module(IMAGES)
    assert revert(convert(module, keep_class=True)) is module
    assert [set(vars(layer)) for layer in module.modules()] == before
    assert torch.equal(module(IMAGES), expected)


def test_revert_refuses_padding_that_torch_does_not_have() -> None:
    module = nn.Sequential(kept(), kept())
    module[1].padding = ((1, 0), (0, 2))
    with pytest.raises(ValueError, match="revert: layer '1' has padding="):
        revert(module)
    assert runs_here(module[0])


def test_the_class_can_be_changed_afterwards() -> None:
    layer = convert(kept())
    assert type(layer) is convgrad_ext.Conv2d
    assert runs_here(layer)
    assert set(vars(layer)) == set(vars(conv()))


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_keep_class_is_true_or_false(value: Any) -> None:
    layer = conv()
    with pytest.raises(TypeError) as refused:
        convert(layer, keep_class=value)
    assert str(refused.value) == f"convert: keep_class must be True or False, but got {value!r}"
    assert type(layer) is nn.Conv2d


# Layers whose weight is computed


@pytest.mark.parametrize("first", ["register", "convert"])
@pytest.mark.parametrize("register", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrized_layers(register: Callable, first: str) -> None:
    """In eval mode, where spectral_norm's estimate does not change."""
    torch.manual_seed(1)
    theirs = register(conv()).eval()
    torch.manual_seed(1)
    ours = register(kept()).eval() if first == "convert" else register(conv()).eval()
    convert(ours, keep_class=True)
    for layer in (ours, copy.deepcopy(ours)):
        assert_equal(layer(IMAGES), theirs(IMAGES))
        assert runs_here(layer)
    parametrize.remove_parametrizations(ours, "weight")
    assert type(ours) is nn.Conv2d
    assert runs_here(ours)
    assert_equal(ours(IMAGES), theirs(IMAGES))


def test_pruned_layers() -> None:
    layer = conv()
    prune.l1_unstructured(layer, "weight", amount=0.5)
    expected = layer(IMAGES)
    assert_equal(convert(layer, keep_class=True)(IMAGES), expected)
    prune.remove(layer, "weight")
    assert_equal(layer(IMAGES), expected)


# Graphs


def test_compiled() -> None:
    torch._dynamo.reset()
    graphs, layer = Graphs(), kept(padding=1)
    compiled = torch.compile(layer, fullgraph=True, backend=graphs)
    assert_equal(compiled(IMAGES), conv(padding=1)(IMAGES))
    layer.padding = (0, 0)
    assert_equal(compiled(IMAGES), conv()(IMAGES))
    assert graphs.called == [[torch.ops.convgrad_ext.conv2d]] * 2


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not_strict"])
def test_exported(strict: bool) -> None:
    program = torch.export.export(kept(), (IMAGES,), strict=strict)
    assert torch.ops.convgrad_ext.conv2d.default in [n.target for n in program.graph.nodes]
    assert_equal(program.module()(IMAGES), conv()(IMAGES))


def test_fx_takes_a_layer_as_one_call() -> None:
    """Like every layer of torch.nn; it traces through a converted class."""
    graph = torch.fx.symbolic_trace(nn.Sequential(kept(), nn.ReLU()))
    assert [n.op for n in graph.graph.nodes] == ["placeholder", *["call_module"] * 2, "output"]
    assert runs_here(graph)


def test_traced_by_jit() -> None:
    with pytest.warns(DeprecationWarning, match=r"torch\.jit\.trace"):
        traced = torch.jit.trace(kept(), IMAGES)
    assert runs_here(traced)
    assert_equal(traced(IMAGES), conv()(IMAGES))


@pytest.mark.parametrize("inside", [True, False], ids=["in_a_model", "alone"])
def test_script_is_refused(inside: bool) -> None:
    """It compiles the class's forward, which is PyTorch's."""
    module = nn.Sequential(kept()) if inside else kept()
    with (
        pytest.warns(DeprecationWarning, match=r"torch\.jit\.script"),
        pytest.raises(RuntimeError, match=r"torch\.jit\.script compiles the forward of a layer's"),
    ):
        torch.jit.script(module)
    with pytest.warns(DeprecationWarning, match=r"torch\.jit\.script"):
        scripted = torch.jit.script(revert(module))
    assert_equal(scripted(IMAGES), conv()(IMAGES))
