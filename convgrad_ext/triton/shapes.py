"""The passes as the kernels take them: extents of a group, and the walks of csrc/geometry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from convgrad_ext._C import Axis, Walk

Size = tuple[int, ...]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Convolution:
    """The sizes and hyperparameters of one convolution; padding is (top, bottom, left, right)."""

    input_size: Size
    weight_size: Size
    stride: Pair
    padding: tuple[int, int, int, int]
    dilation: Pair
    groups: int

    @cached_property
    def axes(self) -> tuple[Axis, Axis]:
        top, bottom, left, right = self.padding
        sizes = zip(self.input_size[2:], self.weight_size[2:], strict=True)
        (H_in, K_h), (W_in, K_w) = sizes
        return (
            Axis(H_in, K_h, self.stride[0], (top, bottom), self.dilation[0]),
            Axis(W_in, K_w, self.stride[1], (left, right), self.dilation[1]),
        )

    @property
    def N(self) -> int:
        return self.input_size[0]

    @property
    def C_in(self) -> int:
        return self.weight_size[1]

    @property
    def C_out(self) -> int:
        return self.weight_size[0] // self.groups

    @property
    def taps(self) -> int:
        return prod(self.weight_size[2:])

    @property
    def output_pixels(self) -> int:
        return self.N * prod(axis.output_extent for axis in self.axes)


Phase = tuple[Walk, Walk]


@dataclass(frozen=True)
class Correlation:
    """forward or grad_input: a group sums `C` channels of the source for `M` of the destination."""

    C: int
    M: int
    sources: Pair  # extents
    phases: tuple[Phase, ...]

    @staticmethod
    def forward(conv: Convolution) -> Correlation:
        h, w = conv.axes
        H_in, W_in = conv.input_size[2:]
        return Correlation(conv.C_in, conv.C_out, (H_in, W_in), ((h.outputs(), w.outputs()),))

    @staticmethod
    def grad_input(conv: Convolution) -> Correlation:
        h, w = conv.axes
        phases = tuple(
            (h.inputs_of_phase(first_h), w.inputs_of_phase(first_w))
            for first_h, first_w in product(range(h.phases()), range(w.phases()))
        )
        sources = (h.output_extent, w.output_extent)
        return Correlation(conv.C_out, conv.C_in, sources, phases)

    @property
    def table(self) -> list[list[int]]:
        """What differs from phase to phase, as kernels/common.py reads it."""
        return [
            [number for w in phase for number in (w.D, w.T, w.origin, w.first_pixel, w.first_tap)]
            for phase in self.phases
        ]

    @property
    def largest(self) -> int:
        """The largest number of the table, or extent, and the farthest source of a pixel."""
        farthest = [abs(w.source(d, t)) for p in self.phases for w in p for d, t in corners(w)]
        return max(*self.sources, *(abs(n) for row in self.table for n in row), *farthest, 0)

    @property
    def most_pixels(self) -> int:
        """Of a phase of one image."""
        return max(h.D * w.D for h, w in self.phases)

    def extents(self, N: int) -> tuple[int, int, int]:
        """Images, rows and columns of the destination of the first phase, which has the most."""
        h, w = self.phases[0]
        return N, h.D, w.D

    def common(self, name: str) -> Pair:
        """A number of the walks that all phases share, of both axes."""
        h, w = self.phases[0]
        return getattr(h, name), getattr(w, name)


def corners(walk: Walk) -> list[Pair]:
    """The first and last pixel with the first and last tap, where a walk has them."""
    return list(product((0, max(walk.D - 1, 0)), (0, max(walk.T - 1, 0))))
