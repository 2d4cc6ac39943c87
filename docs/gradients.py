"""The formulas of docs/gradients.md as loops, one axis at a time; the page runs them.

Names are those of the question: an image I, a kernel K, an output O, and the gradients dO, dI, dK.
Every number is whole, so that two ways to a gradient agree to the last digit or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

import torch
import torch.nn.functional as F
from torch import Tensor

Numbers = Sequence[int]


def by_autograd(
    I: Numbers, K: Numbers, dO: Numbers, stride: int = 1, padding: int = 0, dilation: int = 1
) -> tuple[list[int], list[int]]:
    """dI and dK by PyTorch's own convolution, in float64: what all the rest is compared with."""
    image, kernel = (torch.tensor([[x]], dtype=torch.float64, requires_grad=True) for x in (I, K))
    output = F.conv1d(image, kernel, None, stride, padding, dilation)
    gradients = torch.autograd.grad(output, (image, kernel), output.new_tensor([[dO]]))
    dI, dK = ([int(x) for x in gradient.flatten()] for gradient in gradients)
    return dI, dK


def output(
    I: Numbers, K: Numbers, stride: int = 1, padding: int = 0, dilation: int = 1
) -> list[int]:
    """O[o] = sum over k of I[o*stride - padding + k*dilation] * K[k], where that is inside of I."""
    count = (len(I) + 2 * padding - dilation * (len(K) - 1) - 1) // stride + 1
    sums = [0] * count
    for o in range(count):
        for k in range(len(K)):
            i = o * stride - padding + k * dilation
            if 0 <= i < len(I):
                sums[o] += I[i] * K[k]
    return sums


def over_outputs(i: int, K: Numbers, dO: Numbers, stride: int, padding: int) -> int:
    """dI[i] for dilation 1, as a sum over outputs: the tap is what is left over."""
    first = max(0, ceil((i + padding - len(K) + 1) / stride))
    last = min(len(dO) - 1, floor((i + padding) / stride))
    return sum(dO[o] * K[i + padding - o * stride] for o in range(first, last + 1))


def over_taps(i: int, K: Numbers, dO: Numbers, stride: int, padding: int, dilation: int = 1) -> int:
    """dI[i] as a sum over taps: those for which the stride divides the rest, and no others."""
    total = 0
    for k in range(len(K)):
        o, rest = divmod(i + padding - k * dilation, stride)
        if rest == 0 and 0 <= o < len(dO):
            total += dO[o] * K[k]
    return total


def taps_of_phase(phase: int, K: Numbers, stride: int, dilation: int = 1) -> list[int]:
    """The taps that pixels with (i + padding) mod stride == phase can meet."""
    return [k for k in range(len(K)) if (phase - k * dilation) % stride == 0]


def spread(dO: Numbers, stride: int) -> list[int]:
    """The outputs' gradients with stride - 1 zeros from one to the next."""
    spaced = [0] * (stride * (len(dO) - 1) + 1)
    spaced[::stride] = dO
    return spaced


def with_zeros(I_size: int, K: Numbers, dO: Numbers, stride: int, padding: int) -> list[int]:
    """dI as textbooks have it: the flipped kernel over dO, spread out and padded with zeros."""
    margin = [0] * (len(K) - 1)
    wide = margin + spread(dO, stride) + margin
    full = output(wide, K[::-1])
    full += [0] * (I_size + 2 * padding - len(full))  # pixels that the stride leaves over
    return full[padding : padding + I_size]


def correlate(I: Tensor, dO: Tensor, stride: int, K_size: int) -> Tensor:
    """dK of an image and a gradient of two axes: dO, spread out by the stride, slides over I."""
    return F.conv2d(I[None, None], dO[None, None], dilation=stride)[0, 0, :K_size, :K_size]


def counted(*size: int) -> Tensor:
    """1, 2, 3, ... row by row."""
    numbers = torch.arange(1.0, 1 + int(torch.tensor(size).prod()), dtype=torch.float64)
    return numbers.view(*size)


def difference(ours: Tensor | Numbers, theirs: Tensor | Numbers) -> int:
    """The largest absolute difference of two results."""
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (ours, theirs))
    assert a.shape == b.shape
    return int((a - b).abs().max())
