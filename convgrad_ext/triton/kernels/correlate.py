"""forward and grad_input: destination[m, d] = sum over c, t of weight[m, c, t]*source[c, s(d, t)].

A program computes BLOCK_M channels of BLOCK_P pixels of one phase. Every phase is a correlation, so
that all of them are one launch, and no zero is multiplied that a stride would have inserted.
"""

import triton
import triton.language as tl

from convgrad_ext.triton.kernels.common import (
    BY_C,
    BY_N,
    DATA,
    D,
    T,
    in_plane,
    is_inside,
    multiplied,
    pixel,
    source,
    split_pixels,
    tap,
    walk_of_phase,
)


@triton.jit
def correlate(
    source_data, source_n, source_c, source_h, source_w,
    weight_data, weight_g, weight_m, weight_c, weight_h, weight_w,
    bias,
    destination_data, destination_n, destination_c, destination_h, destination_w,
    table, programs, N, C, M, S_h, S_w,
    STEP_H: tl.constexpr, TAP_STEP_H: tl.constexpr,
    PIXEL_STEP_H: tl.constexpr, WEIGHT_STEP_H: tl.constexpr,
    STEP_W: tl.constexpr, TAP_STEP_W: tl.constexpr,
    PIXEL_STEP_W: tl.constexpr, WEIGHT_STEP_W: tl.constexpr,
    HAS_BIAS: tl.constexpr, JOINS_TAPS: tl.constexpr,
    SUM: tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    phase, program, group = (
        tl.program_id(0) // programs,
        tl.program_id(0) % programs,
        tl.program_id(1),
    )
    h = walk_of_phase(table, 2 * phase, S_h, STEP_H, TAP_STEP_H, PIXEL_STEP_H, WEIGHT_STEP_H)
    w = walk_of_phase(table, 2 * phase + 1, S_w, STEP_W, TAP_STEP_W, PIXEL_STEP_W, WEIGHT_STEP_W)
    blocks_m = tl.cdiv(M, BLOCK_M)
    first = (program // blocks_m).to(INDEX) * BLOCK_P
    if first >= h[D].to(INDEX) * w[D] * N:
        return
    m = (program % blocks_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    n, d_h, d_w = split_pixels(first + tl.arange(0, BLOCK_P), h, w)
    channel = (group * M + m).to(INDEX)
    from_source = source_data + n * source_n + (group * C).to(INDEX) * source_c
    x = (from_source, source_n, source_c, source_h, source_w)
    of_filter = weight_data + group.to(INDEX) * weight_g + m.to(INDEX) * weight_m
    k = (of_filter, weight_m, weight_c, weight_h, weight_w)
    acc = tl.zeros((BLOCK_M, BLOCK_P), SUM)
    if JOINS_TAPS:
        for i in range(0, h[T] * w[T] * C, BLOCK_C):
            a, b = joined_taps(x, k, h, w, d_h, d_w, i, C, m < M, n < N, INDEX, BLOCK_C)
            acc = multiplied(a, b, acc, PRECISION, UPCAST)
    else:
        for i in range(h[T] * w[T] * tl.cdiv(C, BLOCK_C)):
            a, b = one_tap(x, k, h, w, d_h, d_w, i, C, m < M, n < N, INDEX, BLOCK_C)
            acc = multiplied(a, b, acc, PRECISION, UPCAST)
    if HAS_BIAS:
        acc += tl.load(bias + channel, m < M, other=0).to(SUM)[:, None]
    to = (destination_data, destination_n, destination_c, destination_h, destination_w)
    to_pixel = n * to[BY_N] + in_plane(to, pixel(h, d_h), pixel(w, d_w), INDEX)
    tl.store(
        to[DATA] + (channel * to[BY_C])[:, None] + to_pixel,
        acc.to(to[DATA].dtype.element_ty),
        (m < M)[:, None] & (n < N),
    )


@triton.jit
def one_tap(x, k, h, w, d_h, d_w, i, C, has_m, has_p, INDEX: tl.constexpr, BLOCK_C: tl.constexpr):
    """Step i of the sum: some channels under one tap."""
    blocks_c = tl.cdiv(C, BLOCK_C)
    t, c = i // blocks_c, (i % blocks_c) * BLOCK_C + tl.arange(0, BLOCK_C)
    t_h, t_w = t // w[T], t % w[T]
    s_h, s_w = source(h, d_h, t_h), source(w, d_w, t_w)
    has_source = is_inside(h, w, s_h, s_w) & has_p
    at = in_plane(x, s_h, s_w, INDEX) + (c.to(INDEX) * x[BY_C])[:, None]
    sources = tl.load(x[DATA] + at, has_source & (c < C)[:, None], other=0)
    at = in_plane(k, tap(h, t_h), tap(w, t_w), INDEX) + c.to(INDEX) * k[BY_C]
    weights = tl.load(k[DATA][:, None] + at, has_m[:, None] & (c < C), other=0)
    return weights, sources


@triton.jit
def joined_taps(
    x, k, h, w, d_h, d_w, i, C, has_m, has_p, INDEX: tl.constexpr, BLOCK_C: tl.constexpr
):
    """Steps from i on of a sum over the channels of one tap after the other: there are few."""
    q = i + tl.arange(0, BLOCK_C)
    has_q = q < h[T] * w[T] * C
    t, c = q // C, q % C
    t_h, t_w = t // w[T], t % w[T]
    s_h, s_w = source(h, d_h, t_h[:, None]), source(w, d_w, t_w[:, None])
    has_source = is_inside(h, w, s_h, s_w) & has_q[:, None] & has_p
    at = in_plane(x, s_h, s_w, INDEX) + (c.to(INDEX) * x[BY_C])[:, None]
    sources = tl.load(x[DATA] + at, has_source, other=0)
    at = in_plane(k, tap(h, t_h), tap(w, t_w), INDEX) + c.to(INDEX) * k[BY_C]
    weights = tl.load(k[DATA][:, None] + at, has_m[:, None] & has_q, other=0)
    return weights, sources
