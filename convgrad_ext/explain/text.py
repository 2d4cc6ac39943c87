"""The three passes of one layer as formulas with their bounds.

An axis at a time: rows and columns do not influence each other. The ranges are those of the loops,
csrc/geometry/axis.h; docs/gradients.md derives them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from convgrad_ext import _C
from convgrad_ext.explain.layer import AxisOfLayer, check, signed

Range = tuple[int, int]  # half-open


def explain(axes: Sequence[AxisOfLayer]) -> Iterator[str]:
    """The lines of the explanation.

    Example:
        >>> from convgrad_ext.explain import AxisOfLayer, explain
        >>> lines = list(explain([AxisOfLayer("row", 7, 3, stride=2, padding=1, dilation=1)]))
        >>> lines[0]
        '7 rows, 3 taps, stride 2, padding 1, dilation 1: 4 rows of the output'

    Source: csrc/geometry/axis.h.
    """
    check(axes)
    for axis in axes:
        yield from explain_axis(axis)
        yield ""
    yield from explain_work(axes)


def explain_axis(axis: AxisOfLayer) -> Iterator[str]:
    geometry = axis.geometry()
    outputs, name = geometry.output_extent, axis.name
    yield (
        f"{axis.input} {name}s, {axis.kernel} taps, stride {axis.stride}, padding {axis.padding}, "
        f"dilation {axis.dilation}: {outputs} {name}s of the output"
    )
    yield f"  Input {name} i, output {name} o and tap k meet where"
    bounds = f"0 <= i < {axis.input},  0 <= o < {outputs},  0 <= k < {axis.kernel}"
    yield f"    i = {axis.relation()},   {bounds}"
    yield f"  forward:      output[o] = sum over k of input[{axis.relation()}] * weight[k]"
    yield from grouped("o", "k", [geometry.taps_of_output(o) for o in range(outputs)])
    product = f"input[{axis.relation()}] * grad_output[o]"
    yield f"  grad_weight:  grad_weight[k] = sum over o of {product}"
    yield from grouped("k", "o", [geometry.outputs_of_tap(k) for k in range(axis.kernel)])
    yield "  grad_input:   grad_output counts as 0 outside of the output"
    yield from phases(axis, geometry)
    idle = [i for i in range(axis.input) if not geometry.meetings_of_input(i)]
    if idle:
        yield f"    no output reads i = {listed(idle)}: their gradient is 0"


def grouped(owner: str, summed: str, ranges: Sequence[Range]) -> Iterator[str]:
    """One line for neighbours that sum over the same range."""
    for (lo, hi), group in groupby(range(len(ranges)), key=lambda index: ranges[index]):
        over = f"{summed} = {listed(range(lo, hi))}" if lo < hi else "nothing, which is 0"
        yield f"    {owner} = {listed(list(group))}: {over}"


def phases(axis: AxisOfLayer, geometry: _C.Axis) -> Iterator[str]:
    """The formula of every phase: pixels with the same remainder meet the same taps."""
    for first in range(geometry.phases()):
        walk = geometry.inputs_of_phase(first)
        terms = [
            f"{output_under(axis, walk.tap(t))} * weight[{walk.tap(t)}]" for t in range(walk.T)
        ]
        pixels = [walk.pixel(d) for d in range(walk.D)]
        yield f"    i = {listed(pixels)}: grad_input[i] = {' + '.join(terms) or '0'}"


def output_under(axis: AxisOfLayer, k: int) -> str:
    offset = signed(axis.padding - k * axis.dilation)
    if axis.stride == 1:
        return f"grad_output[i{offset}]"
    return f"grad_output[{f'(i{offset})' if offset else 'i'}/{axis.stride}]"


def listed(numbers: Sequence[int]) -> str:
    """Up to four numbers, or the first two and the last of a sequence of one step."""
    if len(numbers) <= 4:
        return ", ".join(map(str, numbers))
    step = numbers[1] - numbers[0]
    if any(b - a != step for a, b in pairwise(numbers)):
        return ", ".join(map(str, numbers))
    return f"{numbers[0]}, {numbers[1]}, ..., {numbers[-1]}"


def explain_work(axes: Sequence[AxisOfLayer]) -> Iterator[str]:
    """What the zeros of the textbook's grad_input would cost, of one channel and one filter."""
    meetings = with_zeros = 1
    for axis in axes:
        geometry = axis.geometry()
        meetings *= sum(len(geometry.meetings_of_input(i)) for i in range(axis.input))
        with_zeros *= axis.input * axis.kernel
    yield (
        f"Each pass multiplies {meetings} times for a pair of channels. grad_input over a "
        f"grad_output with zeros inserted and around it would multiply {with_zeros} times."
    )
