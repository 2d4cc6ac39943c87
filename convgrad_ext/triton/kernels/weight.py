"""grad_weight[m, c, t] = sum over n, d of grad_output[m, d] * input[c, s(d, t)], in two kernels.

A program of `sum_weight` sums a split of the output's pixels, for BLOCK_M output channels and
BLOCK_Q columns, which are input channels under a tap. `add_splits` adds the splits in their order,
so that the digits are the same in every run.
"""

import triton
import triton.language as tl

from convgrad_ext.triton.kernels.common import (
    BY_C,
    BY_N,
    DATA,
    T,
    in_plane,
    is_inside,
    multiplied,
    source,
    split_pixels,
    walk_of_phase,
)


@triton.jit
def sum_weight(
    input_data, input_n, input_c, input_h, input_w,
    grad_data, grad_n, grad_c, grad_h, grad_w,
    sums,  # as [split][group][m][t][c]
    table, N, C, M, S_h, S_w, pixels_of_split,
    STEP_H: tl.constexpr, TAP_STEP_H: tl.constexpr,
    STEP_W: tl.constexpr, TAP_STEP_W: tl.constexpr,
    JOINS_TAPS: tl.constexpr,
    SUM: tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    group, split = tl.program_id(1), tl.program_id(2)
    h = walk_of_phase(table, 0, S_h, STEP_H, TAP_STEP_H, 1, 1)
    w = walk_of_phase(table, 1, S_w, STEP_W, TAP_STEP_W, 1, 1)
    blocks_m = tl.cdiv(M, BLOCK_M)
    m = (tl.program_id(0) % blocks_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    block = tl.program_id(0) // blocks_m
    if JOINS_TAPS:  # a block has columns of several taps: there are few channels
        q = block * BLOCK_Q + tl.arange(0, BLOCK_Q)
        t, c = q // C, q % C
        has_q = q < h[T] * w[T] * C
        t_h, t_w = (t // w[T])[None, :], (t % w[T])[None, :]
    else:
        blocks_c = tl.cdiv(C, BLOCK_Q)
        t, c = block // blocks_c, (block % blocks_c) * BLOCK_Q + tl.arange(0, BLOCK_Q)
        q, has_q = t * C + c, c < C
        t_h, t_w = t // w[T], t % w[T]
    x = (input_data + (group * C + c).to(INDEX) * input_c, input_n, input_c, input_h, input_w)
    y = (grad_data + (group * M + m).to(INDEX) * grad_c, grad_n, grad_c, grad_h, grad_w)
    acc = tl.zeros((BLOCK_M, BLOCK_Q), SUM)
    first = split.to(INDEX) * pixels_of_split
    for i in range(0, pixels_of_split, BLOCK_P):
        p = i + tl.arange(0, BLOCK_P)
        n, d_h, d_w = split_pixels(first + p, h, w)
        has_p = (n < N) & (p < pixels_of_split)
        s_h, s_w = source(h, d_h[:, None], t_h), source(w, d_w[:, None], t_w)
        has_source = is_inside(h, w, s_h, s_w) & has_p[:, None] & has_q
        at = (n * x[BY_N])[:, None] + in_plane(x, s_h, s_w, INDEX)
        sources = tl.load(x[DATA] + at, has_source, other=0)
        at = n * y[BY_N] + in_plane(y, d_h, d_w, INDEX)
        grads = tl.load(y[DATA][:, None] + at, (m < M)[:, None] & has_p, other=0)
        acc = multiplied(grads, sources, acc, PRECISION, UPCAST)
    row = (split * tl.num_programs(1) + group).to(INDEX) * M + m
    to = row[:, None] * (h[T] * w[T] * C) + q
    tl.store(sums + to, acc, (m < M)[:, None] & has_q)


@triton.jit
def add_splits(
    sums,
    weight_data, weight_n, weight_c, weight_h, weight_w,
    splits, size, C, T_w, taps,
    SUM: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK,), SUM)
    for split in range(splits):
        acc += tl.load(sums + tl.full((), split, INDEX) * size + i, i < size, other=0)
    c, t, filter = i % C, i // C % taps, i // C // taps
    to = (weight_data, weight_n, weight_c, weight_h, weight_w)
    at = filter * to[BY_N] + c * to[BY_C] + in_plane(to, t // T_w, t % T_w, INDEX)
    tl.store(to[DATA] + at, acc.to(to[DATA].dtype.element_ty), i < size)
