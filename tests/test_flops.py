"""FlopCounterMode counts our operators as it counts PyTorch's convolution.

Expected values: the same counter over F.conv2d, and numbers worked out by hand.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, flop_registry

import convgrad_ext
from convgrad_ext.cases import CASES, Case

OPS = torch.ops.convgrad_ext


def run(conv: Any, case: Case, order: int) -> int:
    """The count of a forward pass and of `order` nested backward passes."""
    input, weight, bias = (t.requires_grad_() for t in case.tensors(torch.float32))
    with FlopCounterMode(display=False) as counter:
        value = (conv(input, weight, bias, **case.params) ** 3).sum()
        for remaining in reversed(range(order)):
            grads = torch.autograd.grad(value, (input, weight), create_graph=remaining > 0)
            value = torch.stack([(g**2).sum() for g in grads]).sum()
    return counter.get_total_flops()


@pytest.mark.parametrize("order", [0, 1], ids=["forward", "backward"])
@pytest.mark.parametrize("case", [c for c in CASES if c.in_torch and c.groups == 1], ids=str)
def test_counts_are_those_of_torch(case: Case, order: int) -> None:
    """Every stride, padding and dilation: padding counts as an operand, as in PyTorch's formula."""
    assert run(convgrad_ext.conv2d, case, order) == run(F.conv2d, case, order)


@pytest.mark.parametrize("name", ["plain", "padded", "dilated", "one_channel_in"])
def test_double_backward_counts_are_those_of_torch(name: str) -> None:
    """Nine passes: the forward, its two gradients, two for each of those, two of the forward again.

    The cases use every input pixel: otherwise PyTorch convolves and counts a larger tensor.
    """
    (case,) = [c for c in CASES if c.name == name]
    assert run(convgrad_ext.conv2d, case, order=2) == 9 * run(F.conv2d, case, order=0)
    assert run(convgrad_ext.conv2d, case, order=2) == run(F.conv2d, case, order=2)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups_by_hand(groups: int) -> None:
    """One image of 4 channels, 5x5, eight 3x3 filters: 8 * 3x3 outputs of 4/groups * 3x3 products.

    PyTorch's formula of grad_weight takes all four input channels for each filter, whatever the
    groups: there, and only there, it counts `groups` times what is computed.
    """
    case = Case("grouped", "", N=1, channels=(4, 8), image=(5, 5), kernel=(3, 3), groups=groups)
    one_pass = 2 * (8 * 3 * 3) * (4 // groups * 3 * 3)
    assert one_pass == {1: 5184, 2: 2592, 4: 1296}[groups]
    assert run(convgrad_ext.conv2d, case, order=0) == run(F.conv2d, case, order=0) == one_pass
    assert run(convgrad_ext.conv2d, case, order=1) == 3 * one_pass
    assert run(F.conv2d, case, order=1) == (2 + groups) * one_pass


def test_a_frozen_operand_is_not_counted() -> None:
    """If only the input requires a gradient there is one pass more, not two."""
    input, weight = torch.zeros(1, 1, 4, 4, requires_grad=True), torch.zeros(1, 1, 3, 3)
    with FlopCounterMode(display=False) as counter:
        convgrad_ext.conv2d(input, weight).sum().backward()
    one_pass = 2 * (2 * 2) * (3 * 3)
    counts = counter.get_flop_counts()["Global"]
    assert counts == {OPS.conv2d: one_pass, OPS.conv2d_input: one_pass}


def test_named_arguments_are_taken() -> None:
    """The operators called directly, as graphs of torch.export call them."""
    input, weight, grad = torch.ones(2, 1, 4, 4), torch.ones(3, 1, 3, 3), torch.ones(2, 3, 2, 2)
    params: dict[str, Any] = {
        "stride": (1, 1),
        "padding": (0, 0, 0, 0),
        "dilation": (1, 1),
        "groups": 1,
    }
    with FlopCounterMode(display=False) as counter:
        OPS.conv2d(input=input, weight=weight, bias=None, **params)
        OPS.conv2d_input((2, 1, 4, 4), weight, grad_output=grad, **params)
        OPS.conv2d_weight(input, (3, 1, 3, 3), grad_output=grad, **params)
    one_pass = 2 * (2 * 3 * 2 * 2) * (3 * 3)
    assert list(counter.get_flop_counts()["Global"].values()) == [one_pass] * 3


def test_counts_by_module() -> None:
    """Each layer has its own row, a block the sum of its layers, forward and backward."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(1, 2, 3)
            self.block = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 1), torch.nn.Conv2d(4, 4, 3))

        def forward(self, x: Tensor) -> Any:
            return self.block(self.stem(x))

    def count(net: torch.nn.Module) -> dict[str, int]:
        with FlopCounterMode(display=False) as counter:
            net(torch.ones(1, 1, 8, 8, requires_grad=True)).sum().backward()
        return {name: sum(row.values()) for name, row in counter.get_flop_counts().items()}

    counts = count(convgrad_ext.convert(Net()))
    assert counts == count(Net())
    layers = {  # 2 operations, 3 passes, outputs, weights of one filter
        "Net.stem": 2 * 3 * (2 * 6 * 6) * 9,
        "Net.block.0": 2 * 3 * (4 * 6 * 6) * 2,
        "Net.block.1": 2 * 3 * (4 * 4 * 4) * 36,
    }
    assert {name: counts[name] for name in layers} == layers
    assert counts["Net.block"] == layers["Net.block.0"] + layers["Net.block.1"]


def test_counts_without_data() -> None:
    """A model too large to run is counted on the meta device."""
    layer = convgrad_ext.Conv2d(1024, 1024, 3, padding=1, device="meta")
    with FlopCounterMode(display=False) as counter:
        layer(torch.empty(64, 1024, 512, 512, device="meta"))
    assert counter.get_total_flops() == 2 * 64 * 512**2 * 1024**2 * 9


@pytest.mark.parametrize("name", ["conv2d", "conv2d_input", "conv2d_weight"])
def test_other_counters_find_the_formulas(name: str) -> None:
    """Counters of other projects read PyTorch's table: operator, shapes, other arguments."""
    formula = flop_registry[getattr(OPS, name)]
    input, weight, output = (1, 1, 4, 4), (1, 1, 3, 3), (1, 1, 2, 2)
    last = None if name == "conv2d" else output
    params = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
    assert formula(input, weight, last, *params, out_val=torch.empty(output)) == 2 * 4 * 9
