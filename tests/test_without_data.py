"""Tracing and tensors without data."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from operands import (
    INPUT,
    WEIGHT,
    random,
)
from torch import Tensor, nn

import convgrad_ext
from convgrad_ext.cases import CASES, Case


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = convgrad_ext.Conv2d(2, 4, 3, stride=2, padding="same")
        self.second = convgrad_ext.Conv2d(4, 4, 3, padding=((2, 0), (1, 1)), groups=2)
        self.third = convgrad_ext.Conv2d(4, 1, 3, padding=1, padding_mode="reflect", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x)).relu())


def test_fx_traces_through_the_layers() -> None:
    net, x = Net().double(), random(2, 2, 7, 6)
    traced = torch.fx.symbolic_trace(net)
    called = [node.target for node in traced.graph.nodes if node.op == "call_function"]
    assert called.count(convgrad_ext.conv2d) == 3
    assert torch.equal(traced(x), net(x))


@pytest.mark.parametrize("case", [c for c in CASES if c.in_torch and c.padding != "same"], ids=str)
def test_meta_tensors_get_torchs_shape_and_strides(case: Case) -> None:
    def meta(*size: int) -> Tensor:
        return torch.empty(size, device="meta")

    tensors = meta(*case.input_size), meta(*case.weight_size), meta(case.weight_size[0])
    ours, theirs = convgrad_ext.conv2d(*tensors, **case.params), F.conv2d(*tensors, **case.params)
    assert ours.is_meta
    assert (ours.shape, ours.stride(), ours.dtype) == (theirs.shape, theirs.stride(), theirs.dtype)
    input, weight, _ = tensors
    grad_input = convgrad_ext.conv2d_input(case.input_size, weight, theirs, **case.params)
    grad_weight = convgrad_ext.conv2d_weight(input, case.weight_size, theirs, **case.params)
    assert (grad_input.is_meta, grad_weight.is_meta) == (True, True)
    assert (grad_input.shape, grad_weight.shape) == (input.shape, weight.shape)


def test_meta_tensors_have_gradients_and_formats() -> None:
    input = torch.empty(INPUT, device="meta").contiguous(memory_format=torch.channels_last)
    layer = convgrad_ext.Conv2d(4, 6, 3, device="meta")
    output = layer(input.requires_grad_())
    assert output.is_contiguous(memory_format=torch.channels_last)
    output.sum().backward()
    assert (input.grad.shape, layer.weight.grad.shape) == (INPUT, (6, 4, 3, 3))


def test_meta_gradients_without_images() -> None:
    """The gradients, alone, of the meta device."""
    weight = torch.empty(WEIGHT, device="meta")
    ours = convgrad_ext.conv2d_input(
        (0, *INPUT[1:]), weight, torch.empty(0, 6, 7, 7, device="meta")
    )
    assert (ours.shape, ours.device.type) == ((0, *INPUT[1:]), "meta")
