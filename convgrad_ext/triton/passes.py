"""The three passes: they check, allocate, look their launches up and run them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convgrad_ext import _C
from convgrad_ext.triton import gather, reduction, tiles, tuning
from convgrad_ext.triton.boxes import Operand
from convgrad_ext.triton.shapes import Convolution

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Ints = Sequence[int]

tuning.load_from_environment()


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Tensor:
    params = (stride, padding, dilation, groups)
    output = _C.empty_output(input, weight, bias, *params)
    check_dtype(input)
    if output.numel() > 0:
        conv = convolution(input.shape, weight.shape, *params)
        correlate(conv, input, weight, output, bias, is_forward=True)
    return output


def conv2d_input(
    input_size: Ints,
    weight: Tensor,
    grad_output: Tensor,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    grad_strides: Ints | None = None,
) -> Tensor:
    params = (stride, padding, dilation, groups)
    grad_input = _C.empty_grad_input(input_size, weight, grad_output, *params, grad_strides)
    check_dtype(weight)
    if grad_input.numel() > 0:
        conv = convolution(input_size, weight.shape, *params)
        correlate(conv, grad_output, weight, grad_input, bias=None, is_forward=False)
    return grad_input


def conv2d_weight(
    input: Tensor,
    weight_size: Ints,
    grad_output: Tensor,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    grad_strides: Ints | None = None,
) -> Tensor:
    params = (stride, padding, dilation, groups)
    grad_weight = _C.empty_grad_weight(input, weight_size, grad_output, *params, grad_strides)
    check_dtype(input)
    if grad_weight.numel() > 0:
        reduce(convolution(input.shape, weight_size, *params), input, grad_output, grad_weight)
    return grad_weight


def convolution(
    input_size: Ints, weight_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Convolution:
    top, bottom, left, right = padding
    return Convolution(
        input_size=tuple(input_size),
        weight_size=tuple(weight_size),
        stride=(stride[0], stride[1]),
        padding=(top, bottom, left, right),
        dilation=(dilation[0], dilation[1]),
        groups=groups,
    )


def check_dtype(tensor: Tensor) -> None:
    if tensor.dtype not in DTYPES:
        raise NotImplementedError(
            "convgrad_ext: on CUDA the dtype must be float16, bfloat16, float32 or float64, "
            f"but got {tensor.dtype}"
        )


def correlate(
    conv: Convolution,
    source: Tensor,
    weight: Tensor,
    destination: Tensor,
    bias: Tensor | None,
    is_forward: bool,
) -> None:
    key = gather.Gather(
        conv,
        is_forward,
        Operand.of(source),
        Operand.of(weight),
        Operand.of(destination),
        has_bias=bias is not None,
        precision=tiles.precision_of(source.dtype),
        architecture=tiles.architecture_of(source.device),
    )
    gather.launch_of(key)(
        source_data=source,
        weight_data=weight,
        bias=weight if bias is None else bias.contiguous(),  # without one it is not read
        destination_data=destination,
    )


def reduce(conv: Convolution, input: Tensor, grad_output: Tensor, grad_weight: Tensor) -> None:
    key = reduction.Reduction(
        conv,
        Operand.of(input),
        Operand.of(grad_output),
        Operand.of(grad_weight),
        tiles.precision_of(input.dtype),
        tiles.architecture_of(input.device),
    )
    plan = reduction.launches_of(key)
    sums = torch.empty(plan.size, dtype=plan.dtype, device=input.device)
    plan.sum(input_data=input, grad_data=grad_output, sums=sums)
    plan.add(sums=sums, weight_data=grad_weight)
