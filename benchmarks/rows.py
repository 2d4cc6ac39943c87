"""One row of the results: a kernel beside the baselines, in the figures that the report shows.

layer, class, shape     which convolution
pass, threads, kernel   what ran; `threads` is 1 on CUDA
problem                 null, or why this was not timed
laps                    how often it was measured
gflop, effective_gflop  nominal work, and without the taps that lie on padding
megabytes               operands and results of one pass, each of which has to be moved once
drift                   by how much the machine's peak changed while this layer was measured
ours, baselines         what was measured of each side, or its `problem`
ratios                  baseline's time / ours: above 1, ours is faster; the median over the turns
ratio_spreads           the middle half of that over the turns, as a part of the median
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median, quantiles
from typing import Any

from benchmarks.clock import Side
from benchmarks.jobs import Job
from benchmarks.layers import Layer
from benchmarks.passes import PASSES, SINGLE_PASSES, Results
from benchmarks.results import Row
from benchmarks.verification import Verdict

Timed = dict[str, Any]  # what a row has of one side


@dataclass
class Contestant:
    """A side after its first call; without `side` it takes no further part."""

    job: Job
    backend: str
    verdict: Verdict
    side: Side | None
    extra_bytes: int | None = None
    results: Results | None = None  # of the first call, until the kernels are told apart

    def timed(self) -> Timed:
        identity = {"backend": self.backend, "problem": self.verdict.problem}
        if self.side is None or not self.side.blocks:
            return identity
        return {
            **identity,
            **self.side.timings(),
            "extra_mib": None if self.extra_bytes is None else self.extra_bytes / 2**20,
            "error": self.verdict.error if isfinite(self.verdict.error) else None,
        }


@dataclass(frozen=True)
class Work:
    """What the figures of a cell are made from."""

    gflop: float
    effective_gflop: float
    megabytes: float | None

    @staticmethod
    def of(layer: Layer, pass_name: str, itemsize: int) -> Work:
        factor = PASSES[pass_name].work
        single = pass_name in SINGLE_PASSES
        return Work(
            layer.gflop() * factor,
            layer.effective_gflop() * factor,
            layer.elements() * itemsize / 1e6 if single else None,
        )


def make_row(kernel: Contestant, baselines: dict[str, Contestant], work: Work) -> Row:
    job = kernel.job
    shape = job.layer.as_dict()
    return with_figures(
        {
            "layer": shape.pop("name"),
            "class": shape.pop("kind"),
            "shape": shape,
            "pass": job.pass_name,
            "threads": job.threads,
            "kernel": job.implementation,
            "problem": kernel.verdict.problem,
            "laps": 1,
            "gflop": work.gflop,
            "effective_gflop": work.effective_gflop,
            "megabytes": work.megabytes,
            "drift": 0.0,
            "ours": kernel.timed(),
            "baselines": {name: each.timed() for name, each in baselines.items()},
        }
    )


def joined(before: Row, row: Row) -> Row:
    """A row of all laps so far and the next one; what was wrong in one of them stays wrong."""
    if before["problem"] or row["problem"]:
        return before if before["problem"] else row
    baselines = {
        name: joined_sides(before["baselines"][name], side)
        for name, side in row["baselines"].items()
    }
    both = {
        "laps": before["laps"] + row["laps"],
        "drift": max(before["drift"], row["drift"]),
        "ours": joined_sides(before["ours"], row["ours"]),
        "baselines": baselines,
    }
    return with_figures(row | both)


def joined_sides(before: Timed, side: Timed) -> Timed:
    if "blocks_ms" not in before or "blocks_ms" not in side:
        return before if before["problem"] else side
    return side | {
        name: before[name] + side[name] for name in ("blocks_ms", "calls", "page_faults")
    }


def with_figures(row: Row) -> Row:
    """The row with what follows from the times of its blocks."""
    ours = row["ours"]
    baselines = row["baselines"]
    turns = {
        name: [
            theirs / mine for theirs, mine in zip(side["blocks_ms"], ours["blocks_ms"], strict=True)
        ]
        for name, side in baselines.items()
        if "blocks_ms" in side and "blocks_ms" in ours
    }
    figures = {
        "ours": side_with_figures(ours, row),
        "baselines": {name: side_with_figures(side, row) for name, side in baselines.items()},
        "ratios": {name: median(ratios) for name, ratios in turns.items()},
        "ratio_spreads": {name: spread(ratios) for name, ratios in turns.items()},
    }
    return row | figures


def side_with_figures(side: Timed, row: Row) -> Timed:
    if "blocks_ms" not in side:
        return side
    milliseconds = median(side["blocks_ms"])
    return side | {
        "best_ms": min(side["blocks_ms"]),
        "median_ms": milliseconds,
        "spread": spread(side["blocks_ms"]),
        "page_faults_per_call": side["page_faults"] / side["calls"],
        "gflops": row["gflop"] / milliseconds * 1e3,
        "effective_gflops": row["effective_gflop"] / milliseconds * 1e3,
    }


def spread(values: Sequence[float]) -> float:
    """The middle half of the values, as a part of their median."""
    if len(values) == 1:
        return 0.0
    lower, _, upper = quantiles(values, n=4, method="inclusive")
    return (upper - lower) / median(values)
