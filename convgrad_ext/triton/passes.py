"""The three passes: they check, allocate, look their launches up and run them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convgrad_ext import _C
from convgrad_ext.triton import calls, tuning

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
        correlate(as_key(*params), input, weight, output, bias, is_forward=True)
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
        correlate(as_key(*params), grad_output, weight, grad_input, bias=None, is_forward=False)
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
    if grad_output.numel() == 0:
        return grad_weight.zero_()
    if grad_weight.numel() > 0:
        reduce(as_key(*params), input, grad_output, grad_weight)
    return grad_weight


def as_key(stride: Ints, padding: Ints, dilation: Ints, groups: int) -> calls.Params:
    return tuple(stride), tuple(padding), tuple(dilation), groups


def check_dtype(tensor: Tensor) -> None:
    if tensor.dtype not in DTYPES:
        raise NotImplementedError(
            "convgrad_ext: on CUDA the dtype must be float16, bfloat16, float32 or float64, "
            f"but got {tensor.dtype}"
        )


def correlate(
    params: calls.Params,
    source: Tensor,
    weight: Tensor,
    destination: Tensor,
    bias: Tensor | None,
    is_forward: bool,
) -> None:
    layouts = (calls.layout_of(tensor) for tensor in (source, weight, destination))
    has_bias = bias is not None
    launch = calls.launch_of(calls.kind_of(source), *layouts, params, is_forward, has_bias)
    launch(
        source_data=source,
        weight_data=weight,
        bias=weight if bias is None else bias.contiguous(),  # without one it is not read
        destination_data=destination,
    )


def reduce(params: calls.Params, input: Tensor, grad_output: Tensor, grad_weight: Tensor) -> None:
    layouts = (calls.layout_of(tensor) for tensor in (input, grad_output, grad_weight))
    launches = calls.launches_of(calls.kind_of(input), *layouts, params)
    sums = torch.empty(launches.size, dtype=launches.dtype, device=input.device)
    launches.sum(input_data=input, grad_data=grad_output, sums=sums)
    launches.add(sums=sums, weight_data=grad_weight)
