"""Whole models from torch.nn.Conv2d to convgrad_ext.Conv2d, and back."""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from torch.nn.utils import parametrize

from convgrad_ext.arguments import torch_takes_padding
from convgrad_ext.modules import Conv2d, LazyConv2d
from convgrad_ext.own_forward import give_own_forward, has_own_forward, take_own_forward

Module = TypeVar("Module", bound=nn.Module)
Classes = dict[type[nn.Module], type[nn.Module]]

OURS_FOR_THEIRS: Classes = {nn.Conv2d: Conv2d, nn.LazyConv2d: LazyConv2d}
THEIRS_FOR_OURS: Classes = {ours: theirs for theirs, ours in OURS_FOR_THEIRS.items()}


def convert(module: Module, *, keep_class: bool = False) -> Module:
    """Makes every ``torch.nn.Conv2d`` in a model a :class:`convgrad_ext.Conv2d`, in place.

    Only the class of each layer changes. It stays the same object, with the same parameters,
    buffers, hooks, name, training flag and parametrizations. Subclasses of ``torch.nn.Conv2d`` are
    not converted, because they may have a forward of their own.

    With ``keep_class=True`` the class stays too: each ``torch.nn.Conv2d`` gets a forward of its own
    that runs on these loops. So tools that look up layers by their exact type, such as
    ``fuse_modules`` and FX quantization, still find them. A layer that already has a
    ``_conv_forward`` of its own is not changed. ``docs/converting.md`` lists the tools.

    Args:
        module: a model, or a single layer.
        keep_class: whether layers stay of the class ``torch.nn.Conv2d``.

    Returns:
        The same module.

    Raises:
        TypeError: "convert: module must be a torch.nn.Module, but got Tensor"; "convert:
            keep_class must be True or False, but got 1".

    Example:
        >>> import torch, convgrad_ext
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
        >>> type(convgrad_ext.convert(model)[0])
        <class 'convgrad_ext.modules.Conv2d'>
        >>> layer = convgrad_ext.convert(torch.nn.Conv2d(1, 4, 3), keep_class=True)
        >>> type(layer)
        <class 'torch.nn.modules.conv.Conv2d'>

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html
    """
    check_module("convert", module)
    if not isinstance(keep_class, bool):
        raise TypeError(f"convert: keep_class must be True or False, but got {keep_class!r}")
    for layer in module.modules():
        if plain_class(layer) not in OURS_FOR_THEIRS:
            continue
        if keep_class:
            give_own_forward(layer)
        else:
            take_own_forward(layer)
            swap_class(layer, OURS_FOR_THEIRS)
    return module


def revert(module: Module) -> Module:
    """Undoes :func:`convert`: every :class:`convgrad_ext.Conv2d` becomes ``torch.nn.Conv2d`` again.

    Layers that were converted with ``keep_class=True`` lose the forward of their own.

    Args:
        module: a model, or a single layer.

    Returns:
        The same module.

    Raises:
        ValueError: for padding that ``torch.nn.Conv2d`` does not have, before anything changes:
            "revert: layer '0' has padding=((1, 0), (1, 0)), which torch.nn.Conv2d does not take
            with stride=(1, 1)".
        TypeError: "revert: module must be a torch.nn.Module, but got Tensor".

    Example:
        >>> import torch, convgrad_ext
        >>> model = torch.nn.Sequential(convgrad_ext.Conv2d(1, 4, 3), torch.nn.ReLU())
        >>> type(convgrad_ext.revert(model)[0])
        <class 'torch.nn.modules.conv.Conv2d'>

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html
    """
    check_module("revert", module)
    ours = {name: layer for name, layer in module.named_modules() if runs_here(layer)}
    for name, layer in ours.items():
        if not torch_takes_padding(layer.padding, layer.stride):
            raise ValueError(
                f"revert: layer '{name}' has padding={layer.padding}, which torch.nn.Conv2d does "
                f"not take with stride={layer.stride}"
            )
    for layer in ours.values():
        take_own_forward(layer)
        swap_class(layer, THEIRS_FOR_OURS)
    return module


def runs_here(layer: nn.Module) -> bool:
    return plain_class(layer) in THEIRS_FOR_OURS or has_own_forward(layer)


def swap_class(layer: nn.Module, classes: Classes) -> None:
    new_class = classes.get(plain_class(layer))
    if new_class is None:
        return
    if parametrize.is_parametrized(layer):
        new_class = type(type(layer).__name__, (new_class,), dict(vars(type(layer))))
    layer.__class__ = new_class


def plain_class(layer: nn.Module) -> type[nn.Module]:
    """The layer's class without the one that torch.nn.utils.parametrize puts before it."""
    return type(layer).__bases__[0] if parametrize.is_parametrized(layer) else type(layer)


def check_module(function: str, module: object) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"{function}: module must be a torch.nn.Module, but got {type(module).__name__}"
        )
