"""convert and revert: a model changes its convolutions' class and keeps everything else."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tolerance import assert_sums_equal
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import convgrad_ext
from convgrad_ext import convert, revert


class Plain(nn.Conv2d):
    """A subclass, which may have a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


class Model(nn.Module):
    """Convolutions at every depth, one of them twice, beside layers that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.body = nn.Sequential(
            nn.BatchNorm2d(4),
            nn.ModuleDict({"deep": nn.ModuleList([nn.Conv2d(4, 4, 3, groups=2, stride=2)])}),
        )
        self.shared = nn.Conv2d(4, 4, 1, bias=False)
        self.again = nn.Sequential(self.shared)
        self.subclass = Plain(4, 4, 1)
        self.one_axis = nn.Conv1d(4, 4, 1)
        self.upward = nn.ConvTranspose2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        norm, deep = self.body
        x = deep["deep"][0](norm(self.stem(x)))
        x = self.again(self.shared(x).tanh())
        return self.upward(self.subclass(x))


CONVERTED = ("stem", "body.1.deep.0", "shared", "again.0")


def model() -> Model:
    torch.manual_seed(0)
    return Model().double()


def images(*size: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size or (2, 2, 9, 8), dtype=torch.float64, generator=generator)


def run(module: nn.Module, input: Tensor) -> list[Tensor]:
    """The output and the gradients of the trained parameters."""
    output = module(input)
    trained = [p for p in module.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(output.square().sum(), trained, allow_unused=True)
    return [output, *(g for g in gradients if g is not None)]


def assert_same_run(actual: list[Tensor], expected: list[Tensor]) -> None:
    """Equal up to rounding, in double precision."""
    for a, e in zip(actual, expected, strict=True):
        assert_sums_equal(a, e, (e.abs().max() + 1).expand(e.shape), reduction=2000)


# What is converted


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


# What stays


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
    """What the comparisons above would miss: that nothing was converted."""
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
    """Its momentum belongs to the parameters, which stay."""

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


# Layers whose weight is computed

PARAMETRIZATIONS = [
    pytest.param(parametrizations.weight_norm, id="weight_norm"),
    pytest.param(parametrizations.spectral_norm, id="spectral_norm"),
    pytest.param(parametrizations.orthogonal, id="orthogonal"),
]


def parametrized(register: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """In eval mode, where spectral_norm's estimate stands still."""
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


# revert


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
    told = f"{change.__name__}: module must be a torch.nn.Module, but got {name}"
    assert str(refused.value) == told
