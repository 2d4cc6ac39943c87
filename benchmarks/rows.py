"""One row of the results: a kernel beside the baselines, in the figures that the report shows.

layer, class, shape     which convolution
pass, threads, kernel   what ran; `threads` is 1 on CUDA
problem                 null, or why this was not timed
gflop, effective_gflop  nominal work, and without the taps that lie on padding
megabytes               operands and results of one pass, each of which has to be moved once
laps                    how often all this was measured; the shortest times are here
drift                   by how much the machine's peak changed while this layer was measured
ours, baselines         what was measured of each side, or its `problem`
ratios                  baseline's time / ours: above 1, ours is faster; the median over the turns
ratio_spreads           the middle half of that over the turns, as a part of the median
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import Any

from benchmarks.clock import Side, ratios_by_turn, spread
from benchmarks.jobs import Job
from benchmarks.layers import Layer
from benchmarks.passes import PASSES, SINGLE_PASSES
from benchmarks.results import Row
from benchmarks.verification import Verdict


@dataclass
class Contestant:
    """A side after its first call; without `side` it takes no further part."""

    job: Job
    backend: str
    verdict: Verdict
    side: Side | None
    extra_bytes: int | None = None

    def figures(self, work: Work) -> dict[str, Any]:
        identity = {"backend": self.backend, "problem": self.verdict.problem}
        if self.side is None or not self.side.blocks:
            return identity
        summary = self.side.summary()
        seconds = summary["median_ms"] / 1e3
        return {
            **identity,
            **summary,
            "gflops": work.gflop / seconds,
            "effective_gflops": work.effective_gflop / seconds,
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
    ratios = {name: ratios_by_turn(*pair) for name, pair in timed_pairs(kernel, baselines).items()}
    return {
        "layer": shape.pop("name"),
        "class": shape.pop("kind"),
        "shape": shape,
        "pass": job.pass_name,
        "threads": job.threads,
        "kernel": job.implementation,
        "problem": kernel.verdict.problem,
        "gflop": work.gflop,
        "effective_gflop": work.effective_gflop,
        "megabytes": work.megabytes,
        "laps": 1,
        "drift": None,
        "ours": kernel.figures(work),
        "baselines": {name: each.figures(work) for name, each in baselines.items()},
        "ratios": {name: median(turns) for name, turns in ratios.items()},
        "ratio_spreads": {name: spread(turns) for name, turns in ratios.items()},
    }


def timed_pairs(
    kernel: Contestant, baselines: dict[str, Contestant]
) -> dict[str, tuple[Side, Side]]:
    """Ours and each baseline's side, where both were timed."""
    return {
        name: (kernel.side, each.side)
        for name, each in baselines.items()
        if kernel.side and kernel.side.blocks and each.side and each.side.blocks
    }
