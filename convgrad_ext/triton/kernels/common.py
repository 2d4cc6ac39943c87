"""What the kernels share: a tensor, a walk, and the sources that it reads.

Kernels take single numbers and put them into these tuples at once: ``torch.compile`` would pass no
tuple to a kernel that it sees.
"""

from typing import NamedTuple

import triton
import triton.language as tl

# The numbers of a walk in the table of a launch: shapes.py writes them.
NUMBERS = tl.constexpr(5)


class View(NamedTuple):
    """A tensor and its strides; of a weight, `n` leads from filter to filter of the pass."""

    data: tl.tensor
    n: tl.tensor
    c: tl.tensor
    h: tl.tensor
    w: tl.tensor


class Walk(NamedTuple):
    """csrc/geometry/axis.h explains the fields, of one axis of one phase."""

    D: tl.tensor
    S: tl.tensor
    T: tl.tensor
    origin: tl.tensor
    step: tl.constexpr
    tap_step: tl.constexpr
    first_pixel: tl.tensor
    pixel_step: tl.constexpr
    first_tap: tl.tensor
    weight_step: tl.constexpr


@triton.jit
def walk_of_phase(table, number, S, step, tap_step, pixel_step, weight_step):
    at = table + number * NUMBERS
    return Walk(
        tl.load(at), S, tl.load(at + 1), tl.load(at + 2), step, tap_step,
        tl.load(at + 3), pixel_step, tl.load(at + 4), weight_step,
    )  # fmt: skip


@triton.jit
def source(walk, d, t):
    return walk.origin + d * walk.step + t * walk.tap_step


@triton.jit
def pixel(walk, d):
    return walk.first_pixel + d * walk.pixel_step


@triton.jit
def tap(walk, t):
    return walk.first_tap + t * walk.weight_step


@triton.jit
def is_inside(h, w, s_h, s_w):
    return (s_h >= 0) & (s_h < h.S) & (s_w >= 0) & (s_w < w.S)


@triton.jit
def split_pixels(p, h, w):
    """(n, d_h, d_w) of pixel number p of all images."""
    row = p // w.D
    return row // h.D, row % h.D, p % w.D


@triton.jit
def in_plane(view, y, x, INDEX: tl.constexpr):
    """The offset of a pixel in its channel."""
    return y.to(INDEX) * view.h + x.to(INDEX) * view.w


@triton.jit
def multiplied(a, b, acc, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """acc + a @ b. The interpreter gets products of bfloat16 wrong: there they are upcast."""
    if UPCAST:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=acc.dtype)
