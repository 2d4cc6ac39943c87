"""The layer under the tools of torch.nn that change its weight or take it apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval, parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from cells import Implementation, cell
from cells.plain import PARAMS, assert_same, conv2d, operands

GROUP = "layers"


def layer_of(implementation: Implementation) -> nn.Conv2d:
    torch.manual_seed(0)
    return implementation.Conv2d(4, 6, (3, 2), **PARAMS).double()


def assert_same_with_gradients(layer: Any) -> None:
    """The layer against the plain convolution with its weight, in value and every gradient."""
    image = operands()[0]
    layer(image)  # a hook before the forward may set the weight
    parameters = tuple(layer.parameters())
    results = []
    for output in (layer(image), conv2d(image, layer.weight, layer.bias, **PARAMS)):
        gradients = torch.autograd.grad((output**3).sum(), parameters, retain_graph=True)
        results.append((output, *gradients))
    assert_same(*results)


def register_parametrization(name: str, register: Any) -> None:
    @cell(GROUP, name, f"`torch.nn.utils.parametrizations.{name}`, gradients in the originals")
    def check(implementation: Implementation) -> None:
        layer = register(layer_of(implementation)).eval()
        assert isinstance(layer, implementation.Conv2d)
        assert "weight" not in dict(layer.named_parameters())
        assert_same_with_gradients(layer)


for name in ("weight_norm", "spectral_norm", "orthogonal"):
    register_parametrization(name, getattr(parametrizations, name))


@cell(GROUP, "pruning", "half of the weights are masked; the mask holds in the gradient")
def check_pruning(implementation: Implementation) -> None:
    layer = prune.l1_unstructured(layer_of(implementation), "weight", 0.5)
    assert_same_with_gradients(layer)
    layer(operands()[0]).sum().backward()
    assert (layer.weight_orig.grad[layer.weight_mask == 0] == 0).all()
    prune.remove(layer, "weight")
    assert (layer.weight == 0).sum() == layer.weight.numel() // 2
    assert_same_with_gradients(layer)


def normalization() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(6).double().eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        assert tensor is not None
        tensor.data = torch.rand_like(tensor) + 0.5
    return norm


@cell(GROUP, "fuse_conv_bn_eval", "batch norm folded into the layer, which keeps its class")
def check_fuse_conv_bn_eval(implementation: Implementation) -> None:
    layer, norm, image = layer_of(implementation).eval(), normalization(), operands()[0]
    fused = fuse_conv_bn_eval(layer, norm)
    assert type(fused) is implementation.Conv2d
    expected = norm(conv2d(image, layer.weight, layer.bias, **PARAMS))
    assert_same(fused(image), expected)


@cell(GROUP, "hooks", "forward and full backward hooks of a module")
def check_module_hooks(implementation: Implementation) -> None:
    layer, image = layer_of(implementation), operands()[0].requires_grad_()
    seen: list[Any] = []
    layer.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    layer.register_forward_hook(lambda module, args, output: output + 1)
    layer.register_full_backward_hook(lambda module, inputs, outputs: seen.append(inputs[0]))
    output = layer(image)
    assert_same(output, conv2d(2 * image, layer.weight, layer.bias, **PARAMS) + 1)
    (gradient,) = torch.autograd.grad(output.sum(), image)
    assert_same(gradient, 2 * seen[0])


@cell(GROUP, "averaged model", "`swa_utils.AveragedModel` copies the model and averages weights")
def check_averaged_model(implementation: Implementation) -> None:
    layer, image = layer_of(implementation), operands()[0]
    averaged = AveragedModel(layer)
    averaged.update_parameters(layer)
    first = layer.weight.detach().clone()
    layer.weight.data = 3 * first
    averaged.update_parameters(layer)
    assert_same(averaged(image), conv2d(image, 2 * first, layer.bias, **PARAMS))


@cell(GROUP, "channels_last", "`to(memory_format=...)`: values stay, the output is channels_last")
def check_channels_last(implementation: Implementation) -> None:
    layer = layer_of(implementation).to(memory_format=torch.channels_last)
    image = operands()[0].to(memory_format=torch.channels_last)
    output: Tensor = layer(image)
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert_same(output, conv2d(image, layer.weight, layer.bias, **PARAMS))
