"""What the kernels share: a tensor, a walk, and the sources that it reads.

Both are plain tuples, made of single numbers inside of a kernel: ``torch.compile`` writes kernels
anew from jitted functions and constants alone. The names below are the places in them.
"""

import triton
import triton.language as tl

# A tensor and its strides; of a weight, `BY_N` leads from filter to filter of the pass.
DATA = tl.constexpr(0)
BY_N = tl.constexpr(1)
BY_C = tl.constexpr(2)
BY_H = tl.constexpr(3)
BY_W = tl.constexpr(4)

# A walk along one axis of one phase: csrc/geometry/axis.h explains the numbers.
D = tl.constexpr(0)
S = tl.constexpr(1)
T = tl.constexpr(2)
ORIGIN = tl.constexpr(3)
STEP = tl.constexpr(4)
TAP_STEP = tl.constexpr(5)
FIRST_PIXEL = tl.constexpr(6)
PIXEL_STEP = tl.constexpr(7)
FIRST_TAP = tl.constexpr(8)
WEIGHT_STEP = tl.constexpr(9)

NUMBERS = tl.constexpr(5)  # of a walk in the table of a launch: shapes.py writes them


@triton.jit
def walk_of_phase(table, number, extent, step, tap_step, pixel_step, weight_step):
    at = table + number * NUMBERS
    return (
        tl.load(at), extent, tl.load(at + 1), tl.load(at + 2), step, tap_step,
        tl.load(at + 3), pixel_step, tl.load(at + 4), weight_step,
    )  # fmt: skip


@triton.jit
def source(walk, d, t):
    return walk[ORIGIN] + d * walk[STEP] + t * walk[TAP_STEP]


@triton.jit
def pixel(walk, d):
    return walk[FIRST_PIXEL] + d * walk[PIXEL_STEP]


@triton.jit
def tap(walk, t):
    return walk[FIRST_TAP] + t * walk[WEIGHT_STEP]


@triton.jit
def is_inside(h, w, s_h, s_w):
    return (s_h >= 0) & (s_h < h[S]) & (s_w >= 0) & (s_w < w[S])


@triton.jit
def split_pixels(p, h, w):
    """(n, d_h, d_w) of pixel number p of all images."""
    row = p // w[D]
    return row // h[D], row % h[D], p % w[D]


@triton.jit
def in_plane(view, y, x, INDEX: tl.constexpr):
    """The offset of a pixel in its channel."""
    return y.to(INDEX) * view[BY_H] + x.to(INDEX) * view[BY_W]


@triton.jit
def multiplied(a, b, acc, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """acc + a @ b. The interpreter gets products of bfloat16 wrong: there they are upcast."""
    if UPCAST:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=acc.dtype)
