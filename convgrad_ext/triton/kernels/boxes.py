"""forward, grad_input and grad_weight of channels_last tensors, read in boxes of pixels.

A tensor [N, H, W, C] seen as [N, H/s, s, W/s, s*C] has the pixels that a tap meets under a stride s
in one box. A descriptor reads it, or writes it, and what is beyond an extent reads as zero, so that
padding, tails and the stride need no mask: `boxes.py` beside this folder has the conditions.
"""

import triton
import triton.language as tl

from convgrad_ext.triton.kernels.common import (
    T,
    multiplied,
    pixel,
    source,
    tap,
    walk_of_phase,
)


@triton.jit
def correlate_boxes(
    source_data, weight_data, bias, destination_data,
    table, programs, blocks_h, blocks_w, C, M, groups, S_h, S_w,
    STEP_H: tl.constexpr, TAP_STEP_H: tl.constexpr,
    PIXEL_STEP_H: tl.constexpr, WEIGHT_STEP_H: tl.constexpr,
    STEP_W: tl.constexpr, TAP_STEP_W: tl.constexpr,
    PIXEL_STEP_W: tl.constexpr, WEIGHT_STEP_W: tl.constexpr,
    HAS_BIAS: tl.constexpr, IS_FORWARD: tl.constexpr,
    SUM: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    phase, program, group = (
        tl.program_id(0) // programs,
        tl.program_id(0) % programs,
        tl.program_id(1),
    )
    h = walk_of_phase(table, 2 * phase, S_h, STEP_H, TAP_STEP_H, PIXEL_STEP_H, WEIGHT_STEP_H)
    w = walk_of_phase(table, 2 * phase + 1, S_w, STEP_W, TAP_STEP_W, PIXEL_STEP_W, WEIGHT_STEP_W)
    blocks_m, blocks_c = tl.cdiv(M, BLOCK_M), tl.cdiv(C, BLOCK_C)
    m, box = (program % blocks_m) * BLOCK_M, program // blocks_m
    n, d_h, d_w = first_pixel(box, blocks_h, blocks_w, BLOCK_N, BLOCK_H, BLOCK_W)
    PIXELS: tl.constexpr = BLOCK_N * BLOCK_H * BLOCK_W
    acc = tl.zeros((BLOCK_M, PIXELS), SUM)
    for i in range(h[T] * w[T] * blocks_c):
        t, c = i // blocks_c, (i % blocks_c) * BLOCK_C
        t_h, t_w = t // w[T], t % w[T]
        s_h, s_w = source(h, d_h, t_h), source(w, d_w, t_w)
        at = in_view(n, s_h, s_w, group * C + c, groups * C, STEP_H, STEP_W)
        sources = source_data.load(at).reshape(PIXELS, BLOCK_C)
        if IS_FORWARD:
            weights = weight_data.load([group * M + m, tap(h, t_h), tap(w, t_w), c])
            weights = weights.reshape(BLOCK_M, BLOCK_C)
        else:
            weights = weight_data.load([group * C + c, tap(h, t_h), tap(w, t_w), m])
            weights = weights.reshape(BLOCK_C, BLOCK_M).T
        acc = multiplied(weights, sources.T, acc, PRECISION, UPCAST)
    if HAS_BIAS:
        rows = m + tl.arange(0, BLOCK_M)
        acc += tl.load(bias + group * M + rows, rows < M, other=0).to(SUM)[:, None]
    at = in_view(
        n, pixel(h, d_h), pixel(w, d_w), group * M + m, groups * M, PIXEL_STEP_H, PIXEL_STEP_W
    )
    results = acc.T.to(destination_data.dtype)
    destination_data.store(at, results.reshape(BLOCK_N, BLOCK_H, 1, BLOCK_W, BLOCK_M))


@triton.jit
def sum_weight_boxes(
    input_data, grad_data,
    sums,  # as [split][group][m][t][c]
    table, boxes, boxes_of_split, blocks_h, blocks_w, C, M, groups, S_h, S_w,
    STEP_H: tl.constexpr, TAP_STEP_H: tl.constexpr,
    STEP_W: tl.constexpr, TAP_STEP_W: tl.constexpr,
    SUM: tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_Q: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    group, split = tl.program_id(1), tl.program_id(2)
    h = walk_of_phase(table, 0, S_h, STEP_H, TAP_STEP_H, 1, 1)
    w = walk_of_phase(table, 1, S_w, STEP_W, TAP_STEP_W, 1, 1)
    blocks_m, blocks_c = tl.cdiv(M, BLOCK_M), tl.cdiv(C, BLOCK_Q)
    m, block = (tl.program_id(0) % blocks_m) * BLOCK_M, tl.program_id(0) // blocks_m
    t, c = block // blocks_c, (block % blocks_c) * BLOCK_Q
    PIXELS: tl.constexpr = BLOCK_N * BLOCK_H * BLOCK_W
    acc = tl.zeros((BLOCK_M, BLOCK_Q), SUM)
    first = split * boxes_of_split
    for i in range(first, tl.minimum(first + boxes_of_split, boxes)):
        n, d_h, d_w = first_pixel(i, blocks_h, blocks_w, BLOCK_N, BLOCK_H, BLOCK_W)
        s_h, s_w = source(h, d_h, t // w[T]), source(w, d_w, t % w[T])
        at = in_view(n, s_h, s_w, group * C + c, groups * C, STEP_H, STEP_W)
        sources = input_data.load(at).reshape(PIXELS, BLOCK_Q)
        grads = grad_data.load([n, d_h, 0, d_w, group * M + m]).reshape(PIXELS, BLOCK_M)
        acc = multiplied(grads.T, sources, acc, PRECISION, UPCAST)
    rows, q = m + tl.arange(0, BLOCK_M), c + tl.arange(0, BLOCK_Q)
    row = (split * tl.num_programs(1) + group).to(INDEX) * M + rows
    to = row[:, None] * (h[T] * w[T] * C) + t * C + q
    tl.store(sums + to, acc, (rows < M)[:, None] & (q < C))


@triton.jit
def first_pixel(box, blocks_h, blocks_w, BLOCK_N: tl.constexpr, BLOCK_H: tl.constexpr,
                BLOCK_W: tl.constexpr):  # fmt: skip
    """(n, d_h, d_w) of the first pixel of this box."""
    row = box // blocks_w
    return row // blocks_h * BLOCK_N, row % blocks_h * BLOCK_H, box % blocks_w * BLOCK_W


@triton.jit
def in_view(n, y, x, c, channels, STEP_H: tl.constexpr, STEP_W: tl.constexpr):
    """The coordinates of pixel (y, x) and channel c where every STEP-th pixel is a neighbour."""
    rest_y, rest_x = rest(y, STEP_H), rest(x, STEP_W)
    return [n, (y - rest_y) // STEP_H, rest_y, (x - rest_x) // STEP_W, rest_x * channels + c]


@triton.jit
def rest(pixel, STEP: tl.constexpr):
    """From 0 on for a pixel in the padding as well: `%` has the sign of the pixel."""
    return (pixel % STEP + STEP) % STEP
