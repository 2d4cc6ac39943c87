"""A forward for single layers: a torch.nn.Conv2d that keeps its class and runs on these loops."""

from __future__ import annotations

import weakref
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from convgrad_ext.functional import conv2d


class OwnForward:
    """A layer's ``_conv_forward``, as an attribute of the layer and not of its class.

    It takes the weight and the bias as arguments, as the class's method does. So replicas, whose
    attributes are those of their original, compute with parameters of their own, and so do
    parametrizations and ``torch.func.functional_call``.

    The layer is referred to weakly, because a cycle would keep a dropped model's memory until the
    garbage collector runs. A copy and an unpickled layer refer to themselves, not to the original.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer = weakref.ref(layer)

    def __call__(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return conv_forward(self.alive(), input, weight, bias)

    def __reduce__(self) -> tuple[type[OwnForward], tuple[nn.Module]]:
        return OwnForward, (self.alive(),)

    def alive(self) -> Any:
        layer = self.layer()
        if layer is None:
            raise ReferenceError(
                "convgrad_ext: this layer is a shallow copy, whose original is gone; call "
                "convert(layer, keep_class=True) on the copy, or make it by copy.deepcopy"
            )
        return layer


def conv_forward(layer: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """torch.nn.Conv2d._conv_forward, on this project's conv2d."""
    padding = layer.padding
    if layer.padding_mode != "zeros":
        sides = layer._reversed_padding_repeated_twice
        input, padding = F.pad(input, sides, mode=layer.padding_mode), 0
    return conv2d(input, weight, bias, layer.stride, padding, layer.dilation, layer.groups)


def refuse_script() -> None:
    """torch.jit.script calls it first. Otherwise it would silently compile the class's forward."""
    raise RuntimeError(
        "convgrad_ext: torch.jit.script compiles the forward of a layer's class, which for a layer "
        "converted with keep_class=True is PyTorch's; revert the model, or convert it without "
        "keep_class"
    )


def give_own_forward(layer: nn.Module) -> None:
    """Keeps a ``_conv_forward`` that another library gave the layer."""
    present = vars(layer).get("_conv_forward")
    if present is None or (isinstance(present, OwnForward) and present.layer() is not layer):
        vars(layer).update(_conv_forward=OwnForward(layer), __prepare_scriptable__=refuse_script)


def has_own_forward(layer: nn.Module) -> bool:
    return isinstance(vars(layer).get("_conv_forward"), OwnForward)


def take_own_forward(layer: nn.Module) -> None:
    if has_own_forward(layer):
        del layer._conv_forward, layer.__prepare_scriptable__
