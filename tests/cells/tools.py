"""Tools that look at a convolution from outside: they know PyTorch's by name or by class."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import convgrad_ext
from cells import OURS, Implementation, cell
from cells.plain import PARAMS, assert_same, conv2d, leaves_of, loss_of, operands

GROUP = "tools"


@cell(GROUP, "FLOPs", "`FlopCounterMode` over forward and backward: three times the products")
def check_flops(implementation: Implementation) -> None:
    products = 2 * 6 * (4 * 5) * 4 * (2 * 2)  # N, C_out, outputs of 5x6, C_in, taps; by pencil
    leaves = leaves_of(*(torch.randn(size) for size in ((2, 4, 5, 6), (6, 4, 2, 2))))
    with FlopCounterMode(display=False) as counter:
        implementation.conv2d(*leaves).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * products


@cell(GROUP, "profiler", "forward and backward have rows with a readable name")
def check_profiler(implementation: Implementation) -> None:
    leaves = leaves_of(*operands())
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        loss_of(implementation.conv2d)(*leaves).backward()
    names = {event.key for event in profiler.key_averages()}
    ours = {f"convgrad_ext::conv2d{suffix}" for suffix in ("", "_input", "_weight")}
    theirs = {"aten::conv2d", "aten::convolution_backward"}
    wanted = ours if implementation is OURS else theirs
    assert wanted <= names, names


@cell(GROUP, "dispatch mode", "a `TorchDispatchMode` sees forward and backward as operators")
def check_dispatch_mode(implementation: Implementation) -> None:
    class Names(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            names.append(str(func))
            return func(*args, **(kwargs or {}))

    names: list[str] = []
    leaves = leaves_of(*operands())
    with Names():
        loss_of(implementation.conv2d)(*leaves).backward()
    assert sum("conv" in name for name in names) >= 2, names


def model_for_fx(implementation: Implementation) -> nn.Module:
    """PyTorch's layers, with ours inside if they are asked: `convert(keep_class=True)`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, (3, 2), **PARAMS), nn.BatchNorm2d(6), nn.ReLU()).eval()
    return convgrad_ext.convert(model, keep_class=True) if implementation is OURS else model


@cell(GROUP, "fuse_modules", "conv, batch norm and ReLU into one, of a model converted in place")
def check_fuse_modules(implementation: Implementation) -> None:
    model, image = model_for_fx(implementation), operands()[0].float()
    fused = torch.ao.quantization.fuse_modules(copy.deepcopy(model), [["0", "1", "2"]])
    assert type(fused[1]) is type(fused[2]) is nn.Identity
    layer: Any = model[0]
    expected = model[1](conv2d(image, layer.weight, layer.bias, **PARAMS)).relu()
    assert_same(fused(image), expected, rtol=1e-5)


@cell(GROUP, "FX quantization", "`prepare_fx`, `convert_fx`: an int8 convolution comes out")
def check_fx_quantization(implementation: Implementation) -> None:
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

    model, image = model_for_fx(implementation), operands()[0].float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favour of torchao
        mapping = get_default_qconfig_mapping("fbgemm")
        prepared = quantize_fx.prepare_fx(copy.deepcopy(model), mapping, (image,))
        prepared(image)
        quantized = quantize_fx.convert_fx(prepared)
        layer: Any = quantized.get_submodule("0")
        assert layer.weight().dtype == torch.qint8
        assert_same(quantized(image), model(image), rtol=0.05)
