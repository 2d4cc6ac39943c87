"""The three passes as autograd Functions, closed under differentiation.

Each pass is bilinear, and the three are the partial derivatives of one trilinear form, so the
derivative of each is made of the other two:

=============  ===========  ===============  ===================  =======================
pass           factors      result           gradient of the 1st  gradient of the 2nd
=============  ===========  ===============  ===================  =======================
conv2d         input,       output           conv2d_input         conv2d_weight
               weight
conv2d_input   weight,      grad_input       conv2d_weight        conv2d
               grad_output
conv2d_weight  input,       grad_weight      conv2d_input         conv2d
               grad_output
=============  ===========  ===============  ===================  =======================

The Functions are also the rules by which the dispatcher differentiates the operators
``torch.ops.convgrad_ext``. So there is one set of formulas for eager autograd, forward mode,
``torch.func``, ``torch.compile`` and ``torch.export``, in any nesting.

Reverse mode on the CPU, without tangents, tracing or subclasses, is recorded by
csrc/autograd_node.cpp instead, which has the same formulas and takes a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch._functorch import autograd_function as single_level
from torch.autograd import forward_ad

from convgrad_ext import (
    _C,  # noqa: F401  registers the operators
    batching,
)

ops = torch.ops.convgrad_ext

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]  # top, bottom, left, right
Size = tuple[int, ...]
Strides = tuple[int, ...]  # in memory, of a tensor; `stride` is the convolution's
Gradients = tuple[Tensor | None, ...]


@contextmanager
def gradients_on() -> Iterator[None]:
    with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
        yield


def outer_levels_on() -> AbstractContextManager[None]:
    """A Function's forward runs with gradients switched off, its jvp with forward mode off. That is
    for its own level of ``torch.func``: an outer level, to which the operator goes next, records
    its own.
    """
    return gradients_on() if torch._C._are_functorch_transforms_active() else nullcontext()


def seen_by_outer_levels(jvp: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Without this, forward mode over forward mode would take the tangent for a constant."""

    def run(ctx: Any, *tangents: Tensor | None) -> Tensor:
        with outer_levels_on():
            return jvp(ctx, *tangents)

    return run


def primals_of(ctx: Any) -> tuple[Tensor, ...]:
    """The factors for a jvp, whose result has no tangent of its own level."""
    if not torch._C._are_functorch_transforms_active():
        return ctx.saved_tensors  # forward mode is off
    return tuple(forward_ad.unpack_dual(t, level=0).primal for t in ctx.saved_tensors)


class Conv2dFunction(torch.autograd.Function):
    """output = conv2d(input, weight) + bias."""

    @staticmethod
    def forward(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Padding,
        dilation: Pair,
        groups: int,
    ) -> Tensor:
        return run_below_autograd(
            ops.conv2d, input, weight, bias, stride, padding, dilation, groups
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, weight, _, *ctx.params = inputs
        ctx.input_size, ctx.weight_size = tuple(input.shape), tuple(weight.shape)
        ctx.input_strides, ctx.weight_strides = input.stride(), weight.stride()
        ctx.output_size = tuple(output.shape)
        save_factors(ctx, first=(0, input), second=(1, weight))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None) -> Gradients:
        grad_input = grad_weight = grad_bias = None
        input, weight = ctx.saved_tensors
        if grad_output is not None:
            if ctx.needs_input_grad[0]:
                grad_input = ops.conv2d_input(
                    ctx.input_size, weight, grad_output, *ctx.params, ctx.input_strides
                )
            if ctx.needs_input_grad[1]:
                grad_weight = ops.conv2d_weight(
                    input, ctx.weight_size, grad_output, *ctx.params, ctx.weight_strides
                )
            if ctx.needs_input_grad[2]:
                grad_bias = sum_over_outputs(grad_output, C_out=ctx.weight_size[0])
        return grad_input, grad_weight, grad_bias, None, None, None, None

    @staticmethod
    @seen_by_outer_levels
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        input_tangent, weight_tangent, bias_tangent, *_ = tangents
        input, weight = primals_of(ctx)
        terms = []
        if input_tangent is not None:
            terms.append(ops.conv2d(input_tangent, weight, None, *ctx.params))
        if weight_tangent is not None:
            terms.append(ops.conv2d(input, weight_tangent, None, *ctx.params))
        if bias_tangent is not None:
            terms.append(bias_tangent[:, None, None].expand(ctx.output_size).clone())
        return reduce(torch.add, terms)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        return batching.conv2d(ops.conv2d, info.batch_size, in_dims, *args)


class Conv2dInputFunction(torch.autograd.Function):
    """grad_input = conv2d_input(weight, grad_output), the gradient of conv2d in its input."""

    @staticmethod
    def forward(
        input_size: Size,
        weight: Tensor,
        grad_output: Tensor,
        stride: Pair,
        padding: Padding,
        dilation: Pair,
        groups: int,
        grad_strides: Strides | None = None,
    ) -> Tensor:
        return run_below_autograd(
            ops.conv2d_input,
            input_size,
            weight,
            grad_output,
            stride,
            padding,
            dilation,
            groups,
            grad_strides,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.input_size, weight, grad_output, *params = inputs
        ctx.params, ctx.input_strides = params[:4], strides_in(params)
        ctx.weight_size, ctx.weight_strides = tuple(weight.shape), weight.stride()
        save_factors(ctx, first=(1, weight), second=(2, grad_output))

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Gradients:
        grad_weight = grad_grad_output = None
        weight, grad_output = ctx.saved_tensors
        if grad is not None:
            if ctx.needs_input_grad[1]:
                grad_weight = ops.conv2d_weight(
                    grad, ctx.weight_size, grad_output, *ctx.params, ctx.weight_strides
                )
            if ctx.needs_input_grad[2]:
                grad_grad_output = ops.conv2d(grad, weight, None, *ctx.params)
        return None, grad_weight, grad_grad_output, None, None, None, None, None

    @staticmethod
    @seen_by_outer_levels
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        _, weight_tangent, grad_output_tangent, *_ = tangents
        weight, grad_output = primals_of(ctx)
        terms = []
        if weight_tangent is not None:
            terms.append(
                ops.conv2d_input(
                    ctx.input_size, weight_tangent, grad_output, *ctx.params, ctx.input_strides
                )
            )
        if grad_output_tangent is not None:
            terms.append(
                ops.conv2d_input(
                    ctx.input_size, weight, grad_output_tangent, *ctx.params, ctx.input_strides
                )
            )
        return reduce(torch.add, terms)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        return batching.conv2d_input(ops.conv2d_input, info.batch_size, in_dims, *args)


class Conv2dWeightFunction(torch.autograd.Function):
    """grad_weight = conv2d_weight(input, grad_output), the gradient of conv2d in its weight."""

    @staticmethod
    def forward(
        input: Tensor,
        weight_size: Size,
        grad_output: Tensor,
        stride: Pair,
        padding: Padding,
        dilation: Pair,
        groups: int,
        grad_strides: Strides | None = None,
    ) -> Tensor:
        return run_below_autograd(
            ops.conv2d_weight,
            input,
            weight_size,
            grad_output,
            stride,
            padding,
            dilation,
            groups,
            grad_strides,
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, ctx.weight_size, grad_output, *params = inputs
        ctx.params, ctx.weight_strides = params[:4], strides_in(params)
        ctx.input_size, ctx.input_strides = tuple(input.shape), input.stride()
        save_factors(ctx, first=(0, input), second=(2, grad_output))

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Gradients:
        grad_input = grad_grad_output = None
        input, grad_output = ctx.saved_tensors
        if grad is not None:
            if ctx.needs_input_grad[0]:
                grad_input = ops.conv2d_input(
                    ctx.input_size, grad, grad_output, *ctx.params, ctx.input_strides
                )
            if ctx.needs_input_grad[2]:
                grad_grad_output = ops.conv2d(input, grad, None, *ctx.params)
        return grad_input, None, grad_grad_output, None, None, None, None, None

    @staticmethod
    @seen_by_outer_levels
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        input_tangent, _, grad_output_tangent, *_ = tangents
        input, grad_output = primals_of(ctx)
        terms = []
        if input_tangent is not None:
            terms.append(
                ops.conv2d_weight(
                    input_tangent, ctx.weight_size, grad_output, *ctx.params, ctx.weight_strides
                )
            )
        if grad_output_tangent is not None:
            terms.append(
                ops.conv2d_weight(
                    input, ctx.weight_size, grad_output_tangent, *ctx.params, ctx.weight_strides
                )
            )
        return reduce(torch.add, terms)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
        return batching.conv2d_weight(ops.conv2d_weight, info.batch_size, in_dims, *args)


def save_factors(ctx: Any, first: tuple[int, Tensor], second: tuple[int, Tensor]) -> None:
    """Keeps of a product's two factors, given with their argument numbers, what is wanted.

    The gradient of one factor needs the other alone. Forward mode may need both, but only until the
    forward returns: ``save_for_forward`` holds them no longer than that.
    """
    (first_arg, a), (second_arg, b) = first, second
    wants_a, wants_b = ctx.needs_input_grad[first_arg], ctx.needs_input_grad[second_arg]
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(a if wants_b else None, b if wants_a else None)
    ctx.save_for_forward(a, b)


def strides_in(params: list[Any]) -> Strides | None:
    """The last parameter of the companions, which may be left out."""
    return params[4] if len(params) > 4 else None


def sum_over_outputs(grad_output: Tensor, C_out: int) -> Tensor:
    """grad_bias: each channel meets every output."""
    if grad_output.shape[1] != C_out:  # an input without channels made an output without channels
        return grad_output.new_zeros(C_out)
    return grad_output.sum((0, 2, 3))


def run_below_autograd(op: Any, *args: Any) -> Tensor:
    """The operator past the rules of this file, which called."""
    with outer_levels_on(), torch._C._AutoDispatchBelowAutograd():
        result: Tensor = op(*args)
    return result


def as_autograd_rule(function: type[torch.autograd.Function]) -> Any:
    """What the dispatcher calls for an operator whose operands may be differentiated.

    On the CPU, csrc/autograd_entry.cpp stands before it and takes the calls that record nothing,
    and those of reverse mode. It sees one level of ``torch.func`` transforms at a time, as
    PyTorch's own operators do. So it enters the Function below ``Function.apply``, which would
    start over with all the levels.
    """
    allowed = single_level.enable_single_level_autograd_function  # type: ignore[attr-defined]
    apply = super(torch.autograd.Function, function).apply  # type: ignore[misc]

    def rule(*args: Any) -> Tensor:
        nested = torch._C._are_functorch_transforms_active()
        with allowed() if nested else nullcontext():
            result: Tensor = apply(*args)
        return result

    return rule


rules = torch.library.Library("convgrad_ext", "IMPL")
for name, function, on_batches in (
    ("conv2d", Conv2dFunction, batching.conv2d),
    ("conv2d_input", Conv2dInputFunction, batching.conv2d_input),
    ("conv2d_weight", Conv2dWeightFunction, batching.conv2d_weight),
):
    rules.impl(name, as_autograd_rule(function), "Autograd")
    rule = batching.as_batching_rule(getattr(ops, name).default, on_batches)
    rules.impl(name, rule, "FuncTorchBatched", with_keyset=True)
