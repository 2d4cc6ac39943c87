"""Random convolutions of extreme geometry, and their right results from Python's own integers.

Extents, strides, dilations and paddings reach 2^63 - 1. An image of 2^60 rows is an expanded view
of a single row, which takes no memory. Each call must return the right sums, or raise one clear
sentence where the geometry has no output or its result has no room in memory.

    python tests/extreme_geometries.py --first 0 --count 200

The same options always give the same convolutions. Each line names one before it runs, so that the
last line names the one that did not return.
"""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from random import Random

import torch
from forced_winograd import forced_winograd
from kernel_names import KERNELS
from torch import Tensor

import convgrad_ext

LARGEST = 2**63 - 1
BEYOND = 2**60  # from here on a call may be refused: sums of a few such numbers leave 64 bits
MOST_ELEMENTS = 1 << 14  # of a result, and of an operand that is no expanded view
NO_ROOM = 1 << 50  # elements that do not fit into any machine
MOST_OUTPUTS = 40  # along an axis of a gradient's operand, all of which are visited
UNCLEAR = re.compile(r"INTERNAL|[Ii]nternal|an issue|negative dimension|std::|vector|-\d")


def room(size: Sequence[int]) -> int:
    """The product of the extents that give the strides: an extent of 0 counts as 1."""
    return prod(max(1, extent) for extent in size)


@dataclass(frozen=True)
class Axis:
    I: int  # noqa: E741  the letters of the formulas
    K: int
    stride: int
    lo: int
    hi: int
    dilation: int

    @property
    def span(self) -> int:
        return self.dilation * (self.K - 1) + 1

    @property
    def O(self) -> int:  # noqa: E743  as in the formulas
        return (self.I + self.lo + self.hi - self.span) // self.stride + 1

    @property
    def largest(self) -> int:
        return max(self.I + self.lo + self.hi, self.span, self.stride, self.dilation)

    def meetings(self, k: int) -> tuple[list[int], list[int]]:
        """The outputs of tap k, and the input that each of them reads."""
        pairs = [(o, o * self.stride - self.lo + k * self.dilation) for o in range(self.O)]
        inside = [(o, i) for o, i in pairs if 0 <= i < self.I]
        return [o for o, _ in inside], [i for _, i in inside]


@dataclass(frozen=True)
class Geometry:
    pass_name: str
    N: int
    groups: int
    C_in: int
    C_out: int
    h: Axis
    w: Axis
    dtype: torch.dtype
    layout: str
    winograd: bool

    @property
    def input_size(self) -> tuple[int, ...]:
        return self.N, self.C_in, self.h.I, self.w.I

    @property
    def weight_size(self) -> tuple[int, ...]:
        return self.C_out, self.C_in // self.groups, self.h.K, self.w.K

    @property
    def output_size(self) -> tuple[int, ...]:
        C_out = self.C_out if self.C_in > 0 else 0
        return self.N, C_out, max(1, self.h.O), max(1, self.w.O)

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """Of the result, and of the two operands."""
        forward = self.output_size, self.input_size, self.weight_size
        turn = {"forward": 0, "grad_input": 1, "grad_weight": 2}[self.pass_name]
        return (forward[turn], *(size for size in forward if size is not forward[turn]))

    @property
    def parameters(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
        h, w = self.h, self.w
        return (h.stride, w.stride), (h.lo, h.hi, w.lo, w.hi), (h.dilation, w.dilation), self.groups

    @property
    def is_defined(self) -> bool:
        """Whether this is a valid convolution."""
        empty_image = self.h.I == 0 or self.w.I == 0
        return min(self.h.O, self.w.O) >= 1 and not (empty_image and self.N > 0 and self.C_in > 0)

    @property
    def is_affordable(self) -> bool:
        """Whether it takes little time: it is small, or raises an error at once."""
        if max(map(room, self.sizes[1:])) > LARGEST:
            return False  # PyTorch does not have such tensors
        if not self.is_defined:
            return True
        if prod(self.sizes[0]) >= NO_ROOM:
            return self.pass_name == "forward"
        outputs = MOST_ELEMENTS if self.pass_name == "forward" else MOST_OUTPUTS
        return prod(self.sizes[0]) <= MOST_ELEMENTS and max(self.h.O, self.w.O) <= outputs

    @property
    def may_be_refused(self) -> bool:
        return max(self.h.largest, self.w.largest) >= BEYOND or room(self.sizes[0]) >= NO_ROOM


def magnitude(random: Random) -> int:
    """Any number of bits, close to a power of two."""
    return min(LARGEST, max(1, 2 ** random.randint(1, 63) + random.randint(-2, 2)))


def ordinary_axis(random: Random) -> Axis:
    extent, K = random.choice((0, *range(1, 15))), random.choice((1, 1, 2, 3, 3, 5))
    lo, hi = (random.choice((0, 0, 1, 2, 6)) for _ in range(2))
    return Axis(extent, K, random.randint(1, 4), lo, hi, random.randint(1, 3))


def far_axis(random: Random) -> Axis:
    """Taps, outputs or borders are far apart, but there are few outputs."""
    K = random.choice((1, 2, 3, 3, 4))
    dilation = random.choice((1, 2, magnitude(random)))
    stride = random.choice((1, 1, 3, magnitude(random)))
    outputs = random.choice((1, 2, 3, random.randint(1, 30)))
    padded = dilation * (K - 1) + 1 + (outputs - 1) * stride + random.randint(0, min(stride, 3) - 1)
    lo = random.choice((0, 0, 1, min(padded, LARGEST) // 2, max(0, padded - random.randint(1, 9))))
    hi = random.choice((0, 0, 1, max(0, padded - lo) // 2, max(0, padded - lo - 1)))
    return Axis(min(LARGEST, max(1, padded - lo - hi)), K, stride, *clamped(lo, hi, dilation))


def clamped(*numbers: int) -> tuple[int, ...]:
    return tuple(min(LARGEST, number) for number in numbers)


def any_axis(random: Random) -> Axis:
    """Extents of any size, whether they fit or not."""
    extent, stride, lo, hi, dilation = (
        random.choice((0, 1, 3, magnitude(random))) for _ in range(5)
    )
    return Axis(extent, random.randint(1, 3), max(1, stride), lo, hi, max(1, dilation))


def draw_axis(random: Random) -> Axis:
    return random.choice((ordinary_axis, far_axis, far_axis, any_axis))(random)


def draw(random: Random) -> Geometry:
    groups = random.choice((1, 1, 1, 2, 3))
    channels = (1, 2, 3, 8, 17, 24, 33, 64)
    C_in, C_out = (groups * random.choice(channels) for _ in range(2))
    return Geometry(
        pass_name=random.choice(("forward", "grad_input", "grad_weight")),
        N=random.choice((0, 1, 1, 1, 2, 5)),
        groups=groups,
        C_in=0 if random.random() < 0.02 else C_in,
        C_out=C_out,
        h=draw_axis(random),
        w=draw_axis(random),
        dtype=random.choice((torch.float32, torch.float32, torch.float64)),
        layout=random.choice(("contiguous", "channels_last", "absurd strides")),
        winograd=random.random() < 0.3,
    )


def geometry(number: int) -> Geometry:
    random = Random(number)
    return next(g for g in iter(lambda: draw(random), None) if g.is_affordable)


def operand(size: tuple[int, ...], g: Geometry, seed: int) -> Tensor:
    """Whole numbers; they are all equal along an extent that is too large for memory."""
    expanded = list(size)
    while room(expanded) > MOST_ELEMENTS:
        expanded[expanded.index(max(expanded))] = 1
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-2, 3, expanded, generator=generator).to(g.dtype)
    if g.layout == "channels_last":
        numbers = numbers.contiguous(memory_format=torch.channels_last)
    numbers = numbers.expand(size)
    if g.layout == "absurd strides":  # where there is one index, they have no meaning
        strides = [2**60 + 1 if n == 1 else s for n, s in zip(size, numbers.stride(), strict=True)]
        numbers = numbers.as_strided(size, strides)
    return numbers


def called(g: Geometry, first: Tensor, second: Tensor) -> Tensor:
    ops, size = torch.ops.convgrad_ext, g.sizes[0]
    if g.pass_name == "forward":
        return ops.conv2d(first, second, None, *g.parameters)
    if g.pass_name == "grad_input":  # of output and weight
        return ops.conv2d_input(size, second, first, *g.parameters)
    return ops.conv2d_weight(second, size, first, *g.parameters)


def expected(g: Geometry, first: Tensor, second: Tensor) -> Tensor:
    """Tap by tap, in float64, where sums of small whole numbers are exact."""
    result = torch.zeros(g.sizes[0], dtype=torch.float64)
    if 0 in (*first.shape, *second.shape):
        return result
    for k_h, k_w in product(range(g.h.K), range(g.w.K)):
        (o_h, i_h), (o_w, i_w) = g.h.meetings(k_h), g.w.meetings(k_w)
        if not (o_h and o_w):
            continue
        if g.pass_name == "grad_weight":
            factors = pixels(g, first, o_h, o_w), pixels(g, second, i_h, i_w)
            result[:, :, k_h, k_w] = torch.einsum("ngmhw,ngchw->gmc", factors).flatten(0, 1)
            continue
        tap = second[:, :, k_h, k_w].double().unflatten(0, (g.groups, -1))
        if g.pass_name == "forward":
            sums = torch.einsum("ngchw,gmc->ngmhw", pixels(g, first, i_h, i_w), tap)
            result[at(o_h, o_w)] += sums.flatten(1, 2)
        else:
            sums = torch.einsum("ngmhw,gmc->ngchw", pixels(g, first, o_h, o_w), tap)
            result[at(i_h, i_w)] += sums.flatten(1, 2)
    return result


def at(rows: list[int], columns: list[int]) -> tuple:
    """The index of some pixels of all channels of all images."""
    return slice(None), slice(None), torch.tensor(rows)[:, None], torch.tensor(columns)


def pixels(g: Geometry, images: Tensor, rows: list[int], columns: list[int]) -> Tensor:
    """Some pixels, the channels in groups."""
    return images[at(rows, columns)].double().unflatten(1, (g.groups, -1))


def fault(g: Geometry, kernel: str) -> str | None:
    """The error of a call, in one sentence."""
    first, second = operand(g.sizes[1], g, 0), operand(g.sizes[2], g, 1)
    try:
        with convgrad_ext.use_kernel(kernel), forced_winograd(g.winograd):
            result = called(g, first, second)
    except (RuntimeError, ValueError) as error:
        message = str(error).partition("\n")[0]
        if g.is_defined and not g.may_be_refused:
            return f"is refused: {message}"
        return f"has an unclear message: {message}" if UNCLEAR.search(message) else None
    if not g.is_defined:
        return f"has no output, but a result of size {[*result.shape]}"
    if result.shape != g.sizes[0]:
        return f"has a result of size {[*result.shape]}"
    right = result.numel() == 0 or torch.equal(result.double(), expected(g, first, second))
    return None if right else "has a wrong result"


def main() -> int:
    parser = ArgumentParser()
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    faults = 0
    for number in range(arguments.first, arguments.first + arguments.count):
        g = geometry(number)
        for kernel in KERNELS:
            print(number, kernel, g, flush=True)
            found = fault(g, kernel)
            if found:
                print(f"** {number} on {kernel} {found}", flush=True)
            faults += found is not None
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
