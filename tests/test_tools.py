"""Tools of PyTorch that look up layers by their exact type: each way beside a plain model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from spies import OURS, convolutions
from tolerance import assert_sums_equal
from torch import Tensor, nn
from torch.ao import quantization
from torch.ao.quantization import quantize_fx
from torch.nn.utils.fusion import fuse_conv_bn_eval

import convgrad_ext
from convgrad_ext import convert, replacing_conv2d

pytestmark = pytest.mark.filterwarnings(
    # torch 2.10 and later warn of it, and still have it
    "ignore:torch.ao.quantization is deprecated:DeprecationWarning",
    # of observers that its own defaults make, and of the weights of its own layers
    "ignore:Please use quant_min and quant_max:UserWarning",
    "ignore:.*quantized tensor creation functions.*are deprecated:UserWarning",
)

BRANCH = ["0", "1", "2"]  # convolution, batch norm, ReLU


def images() -> Tensor:
    return torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))


def model() -> nn.Sequential:
    """A batch norm that has seen images, so that to fuse it changes the weight."""
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)
    module = nn.Sequential(*parts)
    for _ in range(3):
        module(images() + 1)
    return module.eval()


def kept() -> nn.Sequential:
    return convert(model(), keep_class=True)


# The two ways that change no class: a model, and the block in which the tool runs.
WAYS = pytest.mark.parametrize(
    ("ours", "block"),
    [
        pytest.param(kept, nullcontext, id="keep_class"),
        pytest.param(model, replacing_conv2d, id="replacing"),
    ],
)


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    """Equal up to rounding: no sum here has more than 72 products of size 10."""
    assert_sums_equal(actual, expected, torch.full_like(expected, 720.0), reduction=72)


def names(module: nn.Module) -> list[str]:
    """The layers' classes, with their modules, because a quantized Conv2d is a Conv2d too."""
    return [f"{type(layer).__module__}.{type(layer).__name__}" for layer in module.modules()]


# Fusion


@pytest.mark.parametrize(
    "fuse",
    [
        pytest.param(lambda m: quantization.fuse_modules(m, [BRANCH]), id="fuse_modules"),
        pytest.param(quantize_fx.fuse_fx, id="fuse_fx"),
    ],
)
@WAYS
def test_fusion(fuse: Callable[[nn.Module], nn.Module], ours: Callable, block: Any) -> None:
    """The batch norm is fused into the weight, and both convolutions still run here."""
    expected = fuse(model())
    with block():
        fused = fuse(ours())
        output = fused(images())
        assert convolutions(lambda: fused(images())) == [OURS, OURS]
    assert names(fused) == names(expected)
    assert "torch.ao.nn.intrinsic.modules.fused.ConvReLU2d" in names(fused)
    assert_equal(output, expected(images()))
    assert_equal(output, model()(images()))


@WAYS
def test_fusion_for_training(ours: Callable, block: Any) -> None:
    """The fused layer computes the convolution and the batch norm one after the other."""
    expected = quantization.fuse_modules_qat(model().train(), [BRANCH])
    with block():
        fused = quantization.fuse_modules_qat(ours().train(), [BRANCH])
        output = fused(images())
        assert convolutions(lambda: fused(images())) == [OURS, OURS]
    assert names(fused) == names(expected)
    assert "torch.ao.nn.intrinsic.modules.fused.ConvBnReLU2d" in names(fused)
    assert_equal(output, expected(images()))


@pytest.mark.parametrize("change", [convert, lambda m: convert(m, keep_class=True)])
def test_fuse_conv_bn_eval(change: Callable[[nn.Module], nn.Module]) -> None:
    """It looks up no layer: each way is right."""
    module = change(model())
    fused = fuse_conv_bn_eval(module[0], module[1])
    assert convolutions(lambda: fused(images())) == [OURS]
    assert_equal(fused(images()), module[:2](images()))


def test_fuse_modules_refuses_a_converted_class() -> None:
    """As docs/converting.md has it."""
    with pytest.raises(AssertionError, match="did not find fuser method"):
        quantization.fuse_modules(convert(model()), [BRANCH])


def test_fuse_fx_leaves_a_converted_class() -> None:
    """docs/converting.md warns of it."""
    fused = quantize_fx.fuse_fx(convert(model()))
    assert "torch.ao.nn.intrinsic.modules.fused.ConvReLU2d" not in names(fused)
    assert_equal(fused(images()), model()(images()))


# Quantization

QUANTIZED = [
    "torch.ao.nn.intrinsic.quantized.modules.conv_relu.ConvReLU2d",
    "torch.ao.nn.quantized.modules.conv.Conv2d",
]


def quantized_by_graph(module: nn.Module) -> nn.Module:
    mapping = quantization.get_default_qconfig_mapping(torch.backends.quantized.engine)
    prepared = quantize_fx.prepare_fx(module, mapping, (images(),))
    prepared(images())
    return quantize_fx.convert_fx(prepared)


def quantized_by_layer(module: nn.Module) -> nn.Module:
    fused = quantization.fuse_modules(module, [BRANCH])
    whole = nn.Sequential(quantization.QuantStub(), fused, quantization.DeQuantStub())
    whole.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    prepared = quantization.prepare(whole.eval())
    prepared(images())
    return quantization.convert(prepared)


@torch.no_grad()
def steps_apart(actual: Tensor, expected: Tensor) -> float:
    """The number of steps of an 8-bit output between two results."""
    step = (expected.max() - expected.min()) / 255
    return ((actual - expected).abs() / step).max().item()


@pytest.mark.parametrize("quantized", [quantized_by_graph, quantized_by_layer])
@WAYS
def test_quantization(quantized: Callable, ours: Callable, block: Any) -> None:
    """Every layer becomes the layer of integers that a plain model gets.

    The observers get results that differ in their last digit, so a number may be on the other
    side of a step.
    """
    expected = quantized(model())
    with block():
        actual = quantized(ours())
    assert names(actual) == names(expected)
    assert [name for name in names(actual) if name in QUANTIZED] == QUANTIZED
    assert steps_apart(actual(images()), expected(images())) <= 2.0
    assert steps_apart(actual(images()), model()(images())) <= 8.0


@WAYS
def test_calibration_runs_here(ours: Callable, block: Any) -> None:
    mapping = quantization.get_default_qconfig_mapping(torch.backends.quantized.engine)
    with block():
        prepared = quantize_fx.prepare_fx(ours(), mapping, (images(),))
        assert convolutions(lambda: prepared(images())) == [OURS, OURS]


def test_graph_quantization_leaves_a_converted_class_in_float() -> None:
    """docs/converting.md warns of it."""
    actual = quantized_by_graph(convert(model()))
    assert not set(names(actual)) & set(QUANTIZED)
    assert convolutions(lambda: actual(images())) == [OURS, OURS]


def test_a_converted_class_refuses_quantized_input() -> None:
    """As docs/converting.md has it: eager quantization leaves it in float."""
    whole = nn.Sequential(quantization.QuantStub(), convert(model())[0])
    whole.qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)
    prepared = quantization.prepare(whole.eval())
    prepared(images())
    actual = quantization.convert(prepared)
    assert type(actual[1]) is convgrad_ext.Conv2d
    with pytest.raises((NotImplementedError, RuntimeError), match="convgrad_ext"):
        actual(images())


def prepared_for_training(module: nn.Module) -> nn.Module:
    mapping = quantization.get_default_qat_qconfig_mapping(torch.backends.quantized.engine)
    return quantize_fx.prepare_qat_fx(module.train(), mapping, (images(),))


def test_quantization_aware_training() -> None:
    """PyTorch makes layers of its own there, which run here under replacing_conv2d."""
    expected, actual = prepared_for_training(model()), prepared_for_training(kept())
    assert names(actual) == names(expected)
    assert "torch.ao.nn.intrinsic.qat.modules.conv_fused.ConvBnReLU2d" in names(actual)
    output = expected(images())
    assert convolutions(lambda: copy.deepcopy(actual)(images())) == ["aten::convolution"] * 2
    with replacing_conv2d():
        assert convolutions(lambda: copy.deepcopy(actual)(images())) == [OURS, OURS]
        assert steps_apart(actual(images()), output) <= 2.0


def test_quantization_aware_training_leaves_a_converted_class() -> None:
    """docs/converting.md warns of it."""
    actual = prepared_for_training(convert(model()))
    assert "torch.ao.nn.intrinsic.qat.modules.conv_fused.ConvBnReLU2d" not in names(actual)
    assert convolutions(lambda: actual(images())) == [OURS, OURS]
