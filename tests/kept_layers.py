"""Layers that convert(keep_class=True) has changed."""

from __future__ import annotations

from typing import Any

import torch
from one_layer import IMAGES, conv
from spies import OURS, convolutions
from torch import Tensor, nn

from convgrad_ext import convert


def kept(**arguments: Any) -> nn.Conv2d:
    return convert(conv(**arguments), keep_class=True)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    deep = nn.ModuleList([nn.Conv2d(6, 6, 3, groups=2)])
    deep.forward = lambda x: deep[0](x)  # a list has none
    return nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), deep).double()


def runs_here(layer: nn.Module, input: Tensor = IMAGES) -> bool:
    return convolutions(lambda: layer(input)) == [OURS]
