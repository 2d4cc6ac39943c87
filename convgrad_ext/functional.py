"""conv2d and its two gradients, with the signatures of torch.nn.functional and torch.nn.grad."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.overrides import handle_torch_function, has_torch_function_variadic

from convgrad_ext._C import autocast as cached_cast
from convgrad_ext._C import plain_conv2d
from convgrad_ext.arguments import (
    IntOrPair,
    PaddingLike,
    as_parameters,
    as_size,
    check_image_rank,
    check_tensor,
    check_weight_rank,
)
from convgrad_ext.autograd import ops
from convgrad_ext.exporters import (
    conv2d_operator,
    numbers_in_trace,
    warn_if_padding_is_fixed,
)
from convgrad_ext.sharding import register_where_loaded


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: PaddingLike = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    accumulate: torch.dtype | None = None,
) -> Tensor:
    r"""Correlates a batch of images with a bank of filters.

    output[n, c_out, h_out, w_out] = bias[c_out] + the sum over c_in, k_h, k_w of
    input[n, c_in, h_out*stride - padding + k_h*dilation, ...] * weight[c_out, c_in, k_h, k_w].

    Args:
        input: images of shape (N, C_in, H_in, W_in), or one image (C_in, H_in, W_in). Any of
            float16, bfloat16, float32, float64, complex64, complex128 or an integer type.
        weight: filters of shape (C_out, C_in // groups, K_h, K_w), of the same dtype.
        bias: a number per output channel, shape (C_out,), of the same dtype.
        stride: input pixels from one output to the next; an int or (vertical, horizontal).
        padding: zero pixels around the image: an int, (vertical, horizontal),
            ((top, bottom), (left, right)), ``'valid'`` for none, or ``'same'`` for an output of
            ceil(H_in / stride) x ceil(W_in / stride), where an odd pixel goes to bottom and right.
        dilation: input pixels from one tap of a filter to the next; an int or a pair.
        groups: number of blocks into which the channels fall; outputs see the inputs of their own.
        accumulate: a wider dtype, ``torch.float64`` for float32, say, in which output and gradients
            are computed before they are rounded once, to check a training against precise sums. It
            costs what float64 costs, and autograd keeps the wider operands. By default, sums of
            half precision run in float32, and others in their own dtype.

    Returns:
        The output of shape (N, C_out, H_out, W_out), without N if the input had none, where
        H_out = (H_in + top + bottom - dilation*(K_h-1) - 1) // stride + 1. It is channels_last if
        input or weight is. The gradients of input and weight have the strides of these, or are
        contiguous where these have gaps in memory.

    Raises:
        RuntimeError: as ``torch.nn.functional.conv2d`` does for shapes and dtypes that do not
            match, with its message: "Given groups=1, weight of size [6, 4, 3, 3], expected
            input[2, 3, 5, 5] to have 4 channels, but got 3 channels instead".
        TypeError: for an argument of another type: "convgrad_ext: stride must be an int or a tuple
            of two ints, but got 1.5".
        ValueError: for a number beyond 64 bits; a TypeError, as PyTorch's, for one in a tuple. And
            for sums that are no wider: "convgrad_ext: accumulate must be torch.float64 for
            torch.float32, but got torch.float16".
        NotImplementedError: for a dtype outside the list above, and for a tensor that is not dense,
            by its name: sparse, nested or MKLDNN's.

    Example:
        >>> import torch, convgrad_ext
        >>> image = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> convgrad_ext.conv2d(image, torch.ones(1, 1, 2, 2), stride=2)
        tensor([[[[10., 18.],
                  [42., 50.]]]])

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html and
    V. Dumoulin, F. Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285.
    """
    if accumulate is not None:
        params = (stride, padding, dilation, groups)
        return precise_conv2d(input, weight, bias, accumulate, *params)
    if not is_compiling():
        output = plain_conv2d(input, weight, bias, stride, padding, dilation, groups)
        if output is not None:
            return output
    if has_torch_function_variadic(input, weight, bias):
        return handle_torch_function(
            conv2d, (input, weight, bias), input, weight, bias, stride, padding, dilation, groups
        )
    check_tensor("input", input)
    check_tensor("weight", weight)
    if bias is not None:
        check_tensor("bias", bias)
    image, kernel = numbers_in_trace(input.shape, weight.shape)
    check_weight_rank(kernel)
    check_image_rank(image)
    params = as_parameters(image, kernel, stride, padding, dilation, groups)
    warn_if_padding_is_fixed(padding, params[0])
    register_where_loaded()
    input, weight, bias = autocast(input, weight, bias)
    operator = conv2d_operator()
    if len(image) == 3:
        return operator(input.unsqueeze(0), weight, bias, *params).squeeze(0)
    return operator(input, weight, bias, *params)


# The dtypes that are wider, by dtype.
WIDER = {
    torch.float16: (torch.float32, torch.float64),
    torch.bfloat16: (torch.float32, torch.float64),
    torch.float32: (torch.float64,),
    torch.complex64: (torch.complex128,),
}


def precise_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    accumulate: torch.dtype,
    *params: Any,
) -> Tensor:
    """conv2d of operands in another dtype, and its output in theirs; so are the gradients."""
    check_tensor("input", input)
    check_tensor("weight", weight)
    if bias is not None:
        check_tensor("bias", bias)
    wider = WIDER.get(input.dtype, ())
    if accumulate not in wider:
        known = " or ".join(map(str, wider)) or "None"
        raise ValueError(
            f"convgrad_ext: accumulate must be {known} for {input.dtype}, but got {accumulate}"
        )
    if any(t is not None and t.dtype != input.dtype for t in (weight, bias)):
        return conv2d(input, weight, bias, *params)  # which says so
    wide_bias = None if bias is None else bias.to(accumulate)
    with without_autocast(input.device.type):
        output = conv2d(input.to(accumulate), weight.to(accumulate), wide_bias, *params)
    return output.to(input.dtype)


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """It would take float32 for half precision; meta has none."""
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


def conv2d_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: IntOrPair = 1,
    padding: PaddingLike = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    r"""The gradient of :func:`conv2d` in its input; itself differentiable, to any order.

    grad_input[n, c_in, i] = the sum over c_out and over all pairs of a tap k and an output o with
    o*stride - padding + k*dilation = i of conj(weight[c_out, c_in, k]) * grad_output[n, c_out, o].

    Args:
        input_size: the size of the input, (N, C_in, H_in, W_in) or (C_in, H_in, W_in). It is asked
            for because with stride > 1 several sizes of the input lead to one size of the output.
        weight: filters of shape (C_out, C_in // groups, K_h, K_w).
        grad_output: the gradient of the output, of its shape (N, C_out, H_out, W_out) and the dtype
            of weight.
        stride, padding, dilation, groups: as for :func:`conv2d`.

    Returns:
        A tensor of size input_size. Input pixels that no output sees are zero. It is channels_last
        if weight or grad_output is, but not if that one is contiguous as well.

    Raises:
        RuntimeError: as :func:`conv2d`, and for another size of grad_output: "Given input of size
            [1, 1, 4, 4] and weight of size [1, 1, 2, 2], expected grad_output to have the size
            [1, 1, 2, 2] of the output, but got [1, 1, 3, 3] instead".

    Example:
        >>> import torch, convgrad_ext
        >>> weight = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> convgrad_ext.conv2d_input((1, 1, 3, 3), weight, torch.ones(1, 1, 1, 1), stride=2)
        tensor([[[[1., 2., 0.],
                  [3., 4., 0.],
                  [0., 0., 0.]]]])

    Source: the signature of ``torch.nn.grad.conv2d_input``,
    https://docs.pytorch.org/docs/stable/nn.functional.html; Dumoulin and Visin, arXiv:1603.07285,
    section 4.
    """
    check_tensor("weight", weight)
    check_tensor("grad_output", grad_output)
    check_weight_rank(weight.shape)
    size = as_size("input_size", input_size)
    check_image_rank(size)
    (kernel,) = numbers_in_trace(weight.shape)
    params = as_parameters(size, kernel, stride, padding, dilation, groups)
    register_where_loaded()
    if len(size) == 3:
        return ops.conv2d_input((1, *size), weight, grad_output.unsqueeze(0), *params).squeeze(0)
    return ops.conv2d_input(size, weight, grad_output, *params)


def conv2d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: IntOrPair = 1,
    padding: PaddingLike = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    r"""The gradient of :func:`conv2d` in its weight; itself differentiable, to any order.

    grad_weight[c_out, c_in, k] = the sum over n and over all outputs o of tap k of
    conj(input[n, c_in, o*stride - padding + k*dilation]) * grad_output[n, c_out, o].

    Args:
        input: images of shape (N, C_in, H_in, W_in) or (C_in, H_in, W_in).
        weight_size: the size of the weight, (C_out, C_in // groups, K_h, K_w).
        grad_output: the gradient of the output, of its shape (N, C_out, H_out, W_out) and the dtype
            of input.
        stride, padding, dilation, groups: as for :func:`conv2d`.

    Returns:
        A tensor of size weight_size. Taps that meet only padding are zero. It is channels_last if
        input or grad_output is, but not if that one is contiguous as well; a weight of 1x1 kernels
        or of one channel is contiguous.

    Raises:
        RuntimeError: as :func:`conv2d`, and for another size of grad_output, as
            :func:`conv2d_input`.

    Example:
        >>> import torch, convgrad_ext
        >>> image = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> convgrad_ext.conv2d_weight(image, (1, 1, 2, 2), torch.ones(1, 1, 2, 2), stride=2)
        tensor([[[[20., 24.],
                  [36., 40.]]]])

    Source: the signature of ``torch.nn.grad.conv2d_weight``,
    https://docs.pytorch.org/docs/stable/nn.functional.html.
    """
    check_tensor("input", input)
    check_tensor("grad_output", grad_output)
    size = as_size("weight_size", weight_size)
    check_weight_rank(size)
    check_image_rank(input.shape)
    (image,) = numbers_in_trace(input.shape)
    params = as_parameters(image, size, stride, padding, dilation, groups)
    register_where_loaded()
    if input.dim() == 3:
        input, grad_output = input.unsqueeze(0), grad_output.unsqueeze(0)
    return ops.conv2d_weight(input, size, grad_output, *params)


def autocast(*tensors: Tensor | None) -> tuple[Any, ...]:
    """The operands in the dtype of an enclosing ``torch.autocast``, which leaves float64 alone."""
    device = tensors[0].device.type  # type: ignore[union-attr]
    if device == "meta" or not torch.is_autocast_enabled(device):  # meta has no autocast
        return tensors
    dtype = torch.get_autocast_dtype(device)
    lower = (torch.float16, torch.bfloat16, torch.float32)
    cast = Tensor.to if is_compiling() else cached_cast
    return tuple(cast(t, dtype) if t is not None and t.dtype in lower else t for t in tensors)
