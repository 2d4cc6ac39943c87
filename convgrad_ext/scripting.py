"""conv2d in the part of Python that ``torch.jit.script`` compiles.

Types are fixed there, so it cannot distinguish the forms of an argument while it runs.
:class:`convgrad_ext.Conv2d` distinguishes them while it is compiled.
"""

from __future__ import annotations

import torch
from torch import Tensor


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """padding is (top, bottom, left, right)."""
    batch = input.unsqueeze(0) if input.dim() == 3 else input
    output = torch.ops.convgrad_ext.conv2d(batch, weight, bias, stride, padding, dilation, groups)
    return output.squeeze(0) if input.dim() == 3 else output


def same_padding(extent: int, kernel_size: int, stride: int, dilation: int) -> tuple[int, int]:
    """Both sides of one axis for padding='same'; stride 1 does not need the image's extent."""
    span = dilation * (kernel_size - 1) + 1
    total = span - 1
    if stride != 1:
        outputs = (extent + stride - 1) // stride
        total = max((outputs - 1) * stride + span - extent, 0)
    return total // 2, total - total // 2
