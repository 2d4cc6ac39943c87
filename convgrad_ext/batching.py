"""The vmap rules: a batch dimension is folded into an axis that the convolution already has.

The batch of one operand is folded into N or into the channels of each group. The batch of two
operands is folded into the groups, which do not mix. So one call on B examples becomes one call of
the pass, `apply`, on a larger convolution. `grad_strides` are the strides of one example's result.
The result of the larger convolution does not have them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch as functorch

Apply = Callable[..., Tensor]
Dim = int | None
OnBatches = Callable[..., tuple[Tensor, int]]
N_AXIS, CHANNEL_AXIS = 0, 1  # of input, output and their gradients
C_OUT_AXIS, C_IN_AXIS = 0, 1  # of weight


BATCHED = torch._C.DispatchKeySet(torch._C.DispatchKey.FuncTorchBatched)


def as_batching_rule(op: Any, on_batches: OnBatches) -> Callable[..., Tensor]:
    """What the dispatcher calls for an operator under vmap; `on_batches` is one of the below.

    ``torch.library.register_vmap`` does the same for any nest of arguments, and visits every number
    in it: several times what a small convolution takes.
    """

    def rule(_: Any, *args: Any) -> Tensor:
        level: Any = functorch.maybe_current_level()
        values = list(args)
        dims: list[Dim] = [None] * len(args)
        for i, arg in enumerate(args):
            if isinstance(arg, Tensor):
                values[i], dims[i] = functorch._unwrap_batched(arg, level)
        extents = [v.shape[d] for v, d in zip(values, dims, strict=True) if d is not None]
        with torch._C._ExcludeDispatchKeyGuard(BATCHED):  # the next level is an outer one
            if not extents:
                unbatched: Tensor = op(*args)
                return unbatched
            result, dim = on_batches(op, extents[0], dims, *values)
        return functorch._add_batch_dim(result, dim, level)

    return rule


def conv2d(
    apply: Apply,
    B: int,
    in_dims: Sequence[Dim],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *params: Any,
) -> tuple[Tensor, int]:
    """Output of shape (B, N, C_out, H_out, W_out) for batched input, weight or bias."""
    input_dim, weight_dim, bias_dim, *_ = in_dims
    *spatial, groups = params
    fused_bias = bias if weight_dim is None and bias_dim is None else None
    if weight_dim is None:
        folded = input if input_dim is None else fold(input, input_dim, N_AXIS)
        output = apply(folded, weight, fused_bias, *params)
        output = output[None] if input_dim is None else output.unflatten(N_AXIS, (B, -1))
    elif input_dim is None:
        folded = fold_within_groups(weight, weight_dim, C_OUT_AXIS, groups)
        output = apply(input, folded, None, *params)
        output = unfold_from_groups(output, B, CHANNEL_AXIS, groups)
    else:
        folded = fold(weight, weight_dim, C_OUT_AXIS)
        output = apply(fold(input, input_dim, CHANNEL_AXIS), folded, None, *spatial, B * groups)
        output = unfold(output, B, CHANNEL_AXIS)
    if bias is not None and fused_bias is None:
        batched = bias[None] if bias_dim is None else bias.movedim(bias_dim, 0)
        output = output + batched[:, None, :, None, None]
    return output, 0


def conv2d_input(
    apply: Apply,
    B: int,
    in_dims: Sequence[Any],
    input_size: tuple[int, ...],
    weight: Tensor,
    grad_output: Tensor,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    grad_strides: Any = None,
) -> tuple[Tensor, int]:
    """grad_input of shape (B, N, C_in, H_in, W_in) for batched weight or grad_output."""
    _, weight_dim, grad_dim, *_ = in_dims
    spatial = stride, padding, dilation
    params = *spatial, groups
    N, C_in, *image = input_size
    if weight_dim is None:
        folded = fold(grad_output, grad_dim, N_AXIS)
        grad_input = apply((B * N, C_in, *image), weight, folded, *params)
        return grad_input.unflatten(N_AXIS, (B, N)), 0
    size = (N, B * C_in, *image)
    if grad_dim is None:
        folded = fold(weight, weight_dim, C_IN_AXIS)
        grad_input = apply(size, folded, grad_output, *params)
        return unfold_from_groups(grad_input, B, CHANNEL_AXIS, groups), 0
    folded = fold(weight, weight_dim, C_OUT_AXIS)
    grad_input = apply(
        size, folded, fold(grad_output, grad_dim, CHANNEL_AXIS), *spatial, B * groups
    )
    return unfold(grad_input, B, CHANNEL_AXIS), 0


def conv2d_weight(
    apply: Apply,
    B: int,
    in_dims: Sequence[Any],
    input: Tensor,
    weight_size: tuple[int, ...],
    grad_output: Tensor,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    grad_strides: Any = None,
) -> tuple[Tensor, int]:
    """grad_weight of shape (B, C_out, C_in/groups, K_h, K_w) for batched input or grad_output."""
    input_dim, _, grad_dim, *_ = in_dims
    spatial = stride, padding, dilation
    params = *spatial, groups
    C_out, C_in_per_group, *kernel = weight_size
    if grad_dim is None:
        folded = fold_within_groups(input, input_dim, CHANNEL_AXIS, groups)
        grad_weight = apply(folded, (C_out, B * C_in_per_group, *kernel), grad_output, *params)
        return unfold(grad_weight, B, C_IN_AXIS), 0
    size = (B * C_out, C_in_per_group, *kernel)
    if input_dim is None:
        folded = fold_within_groups(grad_output, grad_dim, CHANNEL_AXIS, groups)
        grad_weight = apply(input, size, folded, *params)
        return unfold_from_groups(grad_weight, B, C_OUT_AXIS, groups), 0
    folded = fold(input, input_dim, CHANNEL_AXIS)
    grad_weight = apply(
        folded, size, fold(grad_output, grad_dim, CHANNEL_AXIS), *spatial, B * groups
    )
    return unfold(grad_weight, B, C_OUT_AXIS), 0


def fold(x: Tensor, batch_dim: Dim, axis: int) -> Tensor:
    """Axis of extent C becomes B*C, example by example."""
    assert batch_dim is not None
    return x.movedim(batch_dim, axis).flatten(axis, axis + 1)


def unfold(x: Tensor, B: int, axis: int) -> Tensor:
    """The inverse of `fold`, with the batch in front."""
    return x.unflatten(axis, (B, -1)).movedim(axis, 0)


def fold_within_groups(x: Tensor, batch_dim: Dim, axis: int, groups: int) -> Tensor:
    """Axis of extent groups*C becomes groups*B*C: each group holds all examples."""
    assert batch_dim is not None
    grouped = x.movedim(batch_dim, 0).unflatten(axis + 1, (groups, -1))
    return grouped.movedim(0, axis + 1).flatten(axis, axis + 2)


def unfold_from_groups(x: Tensor, B: int, axis: int, groups: int) -> Tensor:
    """The inverse of `fold_within_groups`, with the batch in front."""
    return x.unflatten(axis, (groups, B, -1)).movedim(axis + 1, 0).flatten(axis + 1, axis + 2)
