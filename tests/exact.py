"""The three passes by the definition: one Python loop over the meetings of DESIGN's relation.

Every pass sums over the same meetings, so they share one loop. It runs on numpy arrays of any
type: int64 for whole numbers, float64 for the products of float32, which it holds exactly, and long
double for those of float64. Padding is nowhere: a tap outside of the image meets nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import convgrad_ext
from convgrad_ext.cases import Case

Array = NDArray[Any]


def pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def output_extents(case: Case) -> tuple[int, int]:
    top, bottom, left, right = case.sides
    H_out, W_out = (
        (extent + sides - d * (K - 1) - 1) // s + 1
        for extent, sides, K, s, d in zip(
            case.image,
            (top + bottom, left + right),
            case.kernel,
            pair(case.stride),
            pair(case.dilation),
            strict=True,
        )
    )
    return H_out, W_out


def output_size(case: Case) -> tuple[int, int, int, int]:
    return (case.N, case.channels[1], *output_extents(case))


def meetings(case: Case) -> Iterator[tuple[tuple[int, int], Any, Any]]:
    """Each tap (k_h, k_w), and the pixels of the output and of the input that meet there."""
    axes = zip(
        case.image,
        output_extents(case),
        case.kernel,
        pair(case.stride),
        (case.sides[0], case.sides[2]),
        pair(case.dilation),
        strict=True,
    )
    h, w = (
        [
            [(o, i) for o in range(outputs) if 0 <= (i := o * s - padding + k * d) < inputs]
            for k in range(K)
        ]
        for inputs, outputs, K, s, padding, d in axes
    )
    for k_h, ys in enumerate(h):
        for k_w, xs in enumerate(w):
            if ys and xs:
                (o_h, i_h), (o_w, i_w) = zip(*ys, strict=True), zip(*xs, strict=True)
                yield (k_h, k_w), np.ix_(o_h, o_w), np.ix_(i_h, i_w)


@dataclass(frozen=True)
class Views:
    """The three tensors, with an axis of groups before that of (output) channels."""

    input: Array
    weight: Array
    output: Array

    @classmethod
    def of(cls, case: Case, input: Array, weight: Array, output: Array) -> Views:
        def grouped(t: Array, channel: int) -> Array:
            shape = t.shape
            groups = (case.groups, shape[channel] // case.groups)
            return t.reshape(*shape[:channel], *groups, *shape[channel + 1 :])

        return cls(grouped(input, 1), grouped(weight, 0), grouped(output, 1))


def forward(case: Case, input: Array, weight: Array) -> Array:
    output = np.zeros(output_size(case), input.dtype)
    v = Views.of(case, input, weight, output)
    for (k_h, k_w), o, i in meetings(case):
        tap = v.weight[..., k_h, k_w]
        v.output[(..., *o)] += np.einsum("ngchw,gmc->ngmhw", v.input[(..., *i)], tap)
    return output


def grad_input(case: Case, weight: Array, grad_output: Array) -> Array:
    result = np.zeros(case.input_size, weight.dtype)
    v = Views.of(case, result, weight, grad_output)
    for (k_h, k_w), o, i in meetings(case):
        tap = v.weight[..., k_h, k_w]
        v.input[(..., *i)] += np.einsum("ngmhw,gmc->ngchw", v.output[(..., *o)], tap)
    return result


def grad_weight(case: Case, input: Array, grad_output: Array) -> Array:
    result = np.zeros(case.weight_size, input.dtype)
    v = Views.of(case, input, result, grad_output)
    for (k_h, k_w), o, i in meetings(case):
        pixels = v.input[(..., *i)], v.output[(..., *o)]
        v.weight[..., k_h, k_w] += np.einsum("ngchw,ngmhw->gmc", *pixels)
    return result


@dataclass(frozen=True)
class Pass:
    """A pass with two operands, in the order in which the functions of convgrad_ext take them."""

    name: str
    sizes: Callable[[Case], tuple[Sequence[int], Sequence[int]]]
    exact: Callable[[Case, Array, Array], Array]
    ours: Callable[[Case, Tensor, Tensor], Tensor]

    def products(self, case: Case) -> int:
        """How many products the longest sum has, before any meets padding."""
        taps = case.kernel[0] * case.kernel[1]
        C_in, C_out = (channels // case.groups for channels in case.channels)
        N, _, H_out, W_out = output_size(case)
        sums = {
            "forward": C_in * taps,
            "grad_input": C_out * taps,
            "grad_weight": N * H_out * W_out,
        }
        return sums[self.name]

    def __str__(self) -> str:
        return self.name


FORWARD = Pass(
    "forward",
    lambda case: (case.input_size, case.weight_size),
    forward,
    lambda case, input, weight: convgrad_ext.conv2d(input, weight, **case.params),
)
GRAD_INPUT = Pass(
    "grad_input",
    lambda case: (case.weight_size, output_size(case)),
    grad_input,
    lambda case, weight, grad_output: convgrad_ext.conv2d_input(
        case.input_size, weight, grad_output, **case.params
    ),
)
GRAD_WEIGHT = Pass(
    "grad_weight",
    lambda case: (case.input_size, output_size(case)),
    grad_weight,
    lambda case, input, grad_output: convgrad_ext.conv2d_weight(
        input, case.weight_size, grad_output, **case.params
    ),
)
PASSES = (FORWARD, GRAD_INPUT, GRAD_WEIGHT)


def wide(t: Tensor) -> Array:
    """In a type of more digits: it holds products of float32 exactly."""
    kinds = {torch.float32: np.float64, torch.float64: np.longdouble}
    return t.detach().contiguous().numpy().astype(kinds[t.dtype])
