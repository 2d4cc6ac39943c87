"""Fits the costs that decide for or against Winograd: the table of csrc/cpu/costs.cpp.

    python -m benchmarks.calibrate [--isa avx2] [--dtype float32] [--quick]

Layers over a grid of channels, sizes and dilations run their three passes on one thread, in turns:
over all taps, and in Winograd's form, which costs of zero force. The unit of the costs is the time
of one multiply-add of a vector, at the speed that the loops over all taps reach in their best
layer. benchmarks/winograd_costs.py counts how often a layer pays each cost. Non-negative least
squares on the relative error of all times give the costs. One image and 64 filters are measured,
which is what a choice counts with, and the time of a call without images is subtracted.

For each instruction set it prints the table's row, and for the present and for the fitted costs how
many passes each chooses right, and the geometric mean of the times of its choices over the better
ones. The fitted costs are judged on the layers that they are fitted to. Replace a row only if both
numbers are better, twice, on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp, log
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from benchmarks.winograd_costs import FILTERS, VECTOR_BYTES, Costs, Features, Sample, features_of
from convgrad_ext import _C, allow_winograd, available_kernels, use_kernel
from convgrad_ext.plans import PASSES

DTYPES = {"float32": torch.float32, "float64": torch.float64}
DIRECT = ("direct_pair", "direct_pixels")  # costs of the loops over all taps; others are Winograd's
CHANNELS, SIZES = (4, 8, 16, 32, 64, 128, 256), (7, 10, 14, 20, 28, 40, 56, 80)
QUICK_CHANNELS, QUICK_SIZES = (16, 64), (12,)


# Times


@dataclass(frozen=True)
class Timed:
    """Seconds over all taps and in Winograd's form."""

    features: Features
    direct: float
    winograd: float


@contextmanager
def forced(isa: str, winograd: bool) -> Iterator[None]:
    before = _C.costs(isa)
    _C.set_costs(isa, {name: 0.0 for name in before if name not in DIRECT})
    try:
        with allow_winograd(winograd), use_kernel(isa):
            yield
    finally:
        _C.set_costs(isa, before)


def call_of(sample: Sample, dtype: torch.dtype, N: int = 1) -> Callable[[], Any]:
    input = torch.randn(N, sample.C_in, sample.size, sample.size, dtype=dtype)
    weight = torch.randn(FILTERS, sample.C_in, 3, 3, dtype=dtype)
    grad_output = torch.randn(N, FILTERS, sample.size, sample.size, dtype=dtype)
    d = sample.dilation
    params = ([1, 1], [d, d, d, d], [d, d], 1)
    ops = torch.ops.convgrad_ext
    return {
        "forward": lambda: ops.conv2d(input, weight, None, *params),
        "grad_input": lambda: ops.conv2d_input(input.shape, weight, grad_output, *params),
        "grad_weight": lambda: ops.conv2d_weight(input, weight.shape, grad_output, *params),
    }[sample.pass_name]


def seconds_of(call: Callable[[], Any]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


@torch.no_grad()
def measure(sample: Sample, isa: str, dtype: torch.dtype, effort: float) -> Timed:
    """The best of many turns, in `effort` seconds or five turns."""
    call, nothing = call_of(sample, dtype), call_of(sample, dtype, N=0)
    turns: list[tuple[float, float, float]] = []
    end = perf_counter() + effort
    while perf_counter() < end or len(turns) < 5:
        with forced(isa, winograd=False):
            direct, overhead = seconds_of(call), seconds_of(nothing)
        with forced(isa, winograd=True):
            turns.append((direct, seconds_of(call), overhead))
    direct, winograd, overhead = map(min, zip(*turns, strict=True))
    return Timed(features_of(sample, isa, dtype), direct - overhead, winograd - overhead)


# Fit


def unit_of(timed: Sequence[Timed]) -> float:
    """Seconds of a multiply-add of a vector in the best layer."""
    return min(t.direct / t.features.products for t in timed)


def fit(groups: Sequence[Sequence[Timed]], present: Costs) -> Costs:
    """Costs for all groups, which have a unit each: a dtype's. A cost that no layer pays stays."""
    rows: list[tuple[Costs, float, float]] = []  # counts, time that they explain, whole time
    for group in groups:
        unit = unit_of(group)
        for t in group:
            rows.append((t.features.winograd, t.winograd / unit, t.winograd / unit))
            if t.features.direct:
                rest = t.direct / unit - t.features.products
                rows.append((t.features.direct, rest, t.direct / unit))
    names = [name for name in present if any(counts.get(name) for counts, _, _ in rows)]
    counts = np.array([[row.get(name, 0) / whole for name in names] for row, _, whole in rows])
    fitted, _ = nnls(counts, np.array([rest / whole for _, rest, whole in rows]))
    return present | dict(zip(names, map(float, fitted), strict=True))


def judge(timed: Sequence[Timed], costs: Costs) -> tuple[int, float]:
    """Right choices, and the geometric mean of the chosen times over the better ones."""
    ratios = [
        (t.winograd if t.features.takes_winograd(costs) else t.direct) / min(t.direct, t.winograd)
        for t in timed
    ]
    return ratios.count(1.0), exp(sum(map(log, ratios)) / len(ratios))


def row_of(isa: str, costs: Costs) -> str:
    """A row of the table in csrc/cpu/costs.cpp."""
    fields = (f".{name} = {cost:.3g}" for name, cost in costs.items())
    return "      {" + ",\n       ".join([f'.isa = "{isa}"', *fields]) + "},"


def samples(quick: bool) -> list[Sample]:
    channels, sizes = (QUICK_CHANNELS, QUICK_SIZES) if quick else (CHANNELS, SIZES)
    grid = itertools.product(channels, sizes, (1, 2), PASSES)
    return [Sample(*values) for values in grid]


def calibrate(isa: str, dtypes: Sequence[str], quick: bool) -> None:
    effort = 0.002 if quick else 0.2
    groups = [
        [measure(sample, isa, DTYPES[dtype], effort) for sample in samples(quick)]
        for dtype in dtypes
    ]
    present = _C.costs(isa)
    fitted = fit(groups, present)
    print(row_of(isa, fitted))
    timed = [t for group in groups for t in group]
    for name, costs in (("present", present), ("fitted", fitted)):
        right, loss = judge(timed, costs)
        print(f"// {name}: {right} of {len(timed)} right, {loss:.4f} of the best time", flush=True)


def main(arguments: list[str] | None = None) -> None:
    here = [isa for isa in available_kernels() if isa in VECTOR_BYTES]
    parser = argparse.ArgumentParser("benchmarks.calibrate", description=__doc__.splitlines()[0])
    parser.add_argument("--isa", nargs="+", choices=here, default=here)
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--quick", action="store_true", help="some tiny layers: no costs to use")
    options = parser.parse_args(arguments)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for isa in options.isa:
            calibrate(isa, options.dtype, options.quick)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
