"""The passes of groups of few channels, which fill no matrix: lanes are channels of all groups."""

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
    pixel,
    source,
    split_pixels,
    tap,
    walk_of_phase,
)


@triton.jit
def correlate_groups(
    source_data, source_n, source_c, source_h, source_w,
    weight_data, weight_g, weight_m, weight_c, weight_h, weight_w,
    bias,
    destination_data, destination_n, destination_c, destination_h, destination_w,
    table, programs, N, C, M, groups, S_h, S_w,
    STEP_H: tl.constexpr, TAP_STEP_H: tl.constexpr,
    PIXEL_STEP_H: tl.constexpr, WEIGHT_STEP_H: tl.constexpr,
    STEP_W: tl.constexpr, TAP_STEP_W: tl.constexpr,
    PIXEL_STEP_W: tl.constexpr, WEIGHT_STEP_W: tl.constexpr,
    HAS_BIAS: tl.constexpr, SUM: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    phase, program = tl.program_id(0) // programs, tl.program_id(0) % programs
    h = walk_of_phase(table, 2 * phase, S_h, STEP_H, TAP_STEP_H, PIXEL_STEP_H, WEIGHT_STEP_H)
    w = walk_of_phase(table, 2 * phase + 1, S_w, STEP_W, TAP_STEP_W, PIXEL_STEP_W, WEIGHT_STEP_W)
    first = program.to(INDEX) * BLOCK_P
    if first >= h[D].to(INDEX) * w[D] * N:
        return
    q = tl.program_id(1) * BLOCK_Q + tl.arange(0, BLOCK_Q)  # channels of the destination
    n, d_h, d_w = split_pixels(first + tl.arange(0, BLOCK_P), h, w)
    has_q, has_p = q < groups * M, n < N
    group = (q // M).to(INDEX)
    of_image = (source_data + n * source_n)[:, None] + group * C * source_c
    x = (of_image, source_n, source_c, source_h, source_w)
    of_filter = weight_data + group * weight_g + (q % M).to(INDEX) * weight_m
    k = (of_filter, weight_m, weight_c, weight_h, weight_w)
    acc = tl.zeros((BLOCK_P, BLOCK_Q), SUM)
    for i in range(h[T] * w[T] * C):
        t, c = i // C, i % C
        t_h, t_w = t // w[T], t % w[T]
        s_h, s_w = source(h, d_h, t_h), source(w, d_w, t_w)
        at = c.to(INDEX) * x[BY_C] + in_plane(x, s_h, s_w, INDEX)
        has_source = (is_inside(h, w, s_h, s_w) & has_p)[:, None] & has_q
        sources = tl.load(x[DATA] + at[:, None], has_source, other=0)
        at = c.to(INDEX) * k[BY_C] + in_plane(k, tap(h, t_h), tap(w, t_w), INDEX)
        acc += sources.to(SUM) * tl.load(k[DATA] + at, has_q, other=0).to(SUM)
    if HAS_BIAS:
        acc += tl.load(bias + q, has_q, other=0).to(SUM)
    to = (destination_data, destination_n, destination_c, destination_h, destination_w)
    at = (n * to[BY_N] + in_plane(to, pixel(h, d_h), pixel(w, d_w), INDEX))[:, None]
    at += q.to(INDEX) * to[BY_C]
    tl.store(to[DATA] + at, acc.to(to[DATA].dtype.element_ty), has_p[:, None] & has_q)


@triton.jit
def sum_weight_of_groups(
    input_data, input_n, input_c, input_h, input_w,
    grad_data, grad_n, grad_c, grad_h, grad_w,
    sums,  # as [split][group][m][t][c]
    table, programs, N, C, M, groups, S_h, S_w, pixels_of_split,
    STEP_H: tl.constexpr, TAP_STEP_H: tl.constexpr,
    STEP_W: tl.constexpr, TAP_STEP_W: tl.constexpr,
    SUM: tl.constexpr, INDEX: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    i, program, split = tl.program_id(0) // programs, tl.program_id(0) % programs, tl.program_id(1)
    h = walk_of_phase(table, 0, S_h, STEP_H, TAP_STEP_H, 1, 1)
    w = walk_of_phase(table, 1, S_w, STEP_W, TAP_STEP_W, 1, 1)
    t, c = i // C, i % C
    q = program * BLOCK_Q + tl.arange(0, BLOCK_Q)  # output channels
    has_q = q < groups * M
    x = (input_data + (q // M * C + c).to(INDEX) * input_c, input_n, input_c, input_h, input_w)
    y = (grad_data + q.to(INDEX) * grad_c, grad_n, grad_c, grad_h, grad_w)
    acc = tl.zeros((BLOCK_P, BLOCK_Q), SUM)
    first = split.to(INDEX) * pixels_of_split
    for j in range(0, pixels_of_split, BLOCK_P):
        p = j + tl.arange(0, BLOCK_P)
        n, d_h, d_w = split_pixels(first + p, h, w)
        has_p = (n < N) & (p < pixels_of_split)
        s_h, s_w = source(h, d_h, t // w[T]), source(w, d_w, t % w[T])
        at = (n * x[BY_N] + in_plane(x, s_h, s_w, INDEX))[:, None]
        has_source = (is_inside(h, w, s_h, s_w) & has_p)[:, None] & has_q
        sources = tl.load(x[DATA] + at, has_source, other=0)
        at = (n * y[BY_N] + in_plane(y, d_h, d_w, INDEX))[:, None]
        grads = tl.load(y[DATA] + at, has_p[:, None] & has_q, other=0)
        acc += sources.to(SUM) * grads.to(SUM)
    row = split.to(INDEX) * groups * M + q
    tl.store(sums + row * (h[T] * w[T] * C) + i, tl.sum(acc, 0), has_q)
