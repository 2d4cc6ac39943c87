"""The counts of ``torch.utils.flop_counter.FlopCounterMode`` for the three passes.

All three visit the same meetings of a tap with an output. Padding is included, as in PyTorch's own
formulas. At each meeting they multiply and add once for every input channel of the output's group.
"""

from __future__ import annotations

from math import prod
from typing import Any

from torch.utils.flop_counter import register_flop_formula

from convgrad_ext.autograd import Size, ops


@register_flop_formula(ops.conv2d)
def conv2d(input: Size, weight: Size, *_: Any, out_shape: Size, **__: Any) -> int:
    """The counter passes shapes in the place of tensors. A bias is not counted."""
    return two_per_product(weight, out_shape)


@register_flop_formula(ops.conv2d_input)
def conv2d_input(input_size: Size, weight: Size, grad_output: Size, *_: Any, **__: Any) -> int:
    return two_per_product(weight, grad_output)


@register_flop_formula(ops.conv2d_weight)
def conv2d_weight(input: Size, weight_size: Size, grad_output: Size, *_: Any, **__: Any) -> int:
    return two_per_product(weight_size, grad_output)


def two_per_product(weight: Size, output: Size) -> int:
    """A multiplication and an addition for each weight at each output pixel of its channel."""
    N, _, H_out, W_out = output
    return 2 * N * H_out * W_out * prod(weight)
