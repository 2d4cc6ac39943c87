"""The padding of an image whose size may be a symbol: the sides of ``'same'``, and circular pixels.

``torch.compile``, ``torch.export`` and ``torch.fx`` record these functions and replay them for
images of other sizes. So no branch depends on the remainder of an extent, and the arithmetic is
Python's, which every tracer can record. This file computes extents alone. csrc/geometry
combines indices with stride, padding and dilation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

LARGEST_EXTENT = (2**63 - 1) // 2  # as in csrc/conv_checks.h


def same_padding(I: int, K: int, stride: int, dilation: int) -> tuple[int, int]:  # noqa: E741
    """The pixels before and behind that give ceil(I / stride) outputs; an odd pixel goes behind.

    Without padding the last of these outputs starts at pixel (O - 1)*stride, where O*stride is
    I + (-I) % stride, and its last tap is dilation*(K - 1) pixels from there. The pixels beyond
    I - 1 are missing. The remainder is added, not subtracted. Then a tracer finds bounds that hold
    for every image, and ONNX divides no negative number, which it would round towards zero.
    """
    check_axis(K, stride, dilation)
    reach = dilation * (K - 1)
    total = reach if stride == 1 else reach - (stride - 1) + (-I) % stride
    if reach < stride - 1:
        # Python's max would need the value of a symbol; sym_max takes microseconds for an int.
        total = max(total, 0) if type(total) is int else torch.sym_max(total, 0)
    return total // 2, total - total // 2


def check_axis(K: int, stride: int, dilation: int) -> None:
    if stride <= 0:
        raise RuntimeError("non-positive stride is not supported")
    if dilation <= 0:
        raise RuntimeError("non-positive dilation is not supported")
    if K > 1 and dilation * K > LARGEST_EXTENT:
        raise RuntimeError(
            f"Given dilation={dilation} and a kernel of {K} taps, expected dilation to be at most "
            f"{LARGEST_EXTENT // K}"
        )


def pad_circular(image: Tensor, sides: Sequence[int]) -> Tensor:
    """``F.pad(image, sides, mode="circular")`` of (left, right, top, bottom) that may be symbols.

    F.pad branches on which of them are zero: a graph would hold for images of one remainder alone.
    """
    if has_torch_function_unary(image):
        return handle_torch_function(pad_circular, (image,), image, sides)
    left, right, top, bottom = sides
    for dim, lo, hi in ((-1, left, right), (-2, top, bottom)):
        extent = image.shape[dim]
        if lo > extent or hi > extent:
            raise RuntimeError(
                f"Padding value causes wrapping around more than once: got ({lo}, {hi}) for an "
                f"image of size {list(image.shape)} at dimension {dim}"
            )
        pixels = torch.arange(extent + lo + hi, device=image.device) - lo
        pixels = torch.where(pixels < 0, pixels + extent, pixels)
        pixels = torch.where(pixels < extent, pixels, pixels - extent)
        image = image.index_select(dim, pixels)
    return image
