"""One run of the benchmark: for every layer and pass, verify first, then time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.clock import Effort, measure
from benchmarks.devices import Device
from benchmarks.jobs import Job
from benchmarks.kernel_names import plain
from benchmarks.layers import Layer, load_layers
from benchmarks.operands import Operands, make_operands
from benchmarks.passes import PASSES
from benchmarks.passes import Results as Tensors
from benchmarks.results import Results, Row, difference
from benchmarks.rows import Contestant, Work, joined, make_row
from benchmarks.settings import Settings
from benchmarks.verification import Precision, Verdict, verify

# Beyond it a float64 F.conv2d, which is im2col and a matrix product, is not cheap any more.
MOST_EXACT_GFLOP = 50.0
MOST_COLUMN_BYTES = 2 << 30


@dataclass(frozen=True)
class Cell:
    """What is timed together: every kernel and every baseline on one pass of one layer."""

    layer: Layer
    pass_name: str
    threads: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.layer.name, self.pass_name, self.threads

    @property
    def gflop(self) -> float:
        return self.layer.gflop() * PASSES[self.pass_name].work


@dataclass(frozen=True)
class Expected:
    """What a pass should give, and how precisely."""

    results: Tensors
    precision: Precision


class Race:
    def __init__(
        self,
        settings: Settings,
        device: Device,
        results: Results,
        effort: Effort,
        tell: Callable[[Cell, list[Row]], None],
    ) -> None:
        self.settings = settings
        self.device = device
        self.results = results
        self.effort = effort
        self.tell = tell  # is told of every cell of every lap; in the last one, with the rows
        self.form = settings.form(device)
        self.peaks: dict[int, float] = {}  # by number of threads, as of the last probe

    def cells(self) -> list[Cell]:
        return [
            Cell(layer, pass_name, threads)
            for layer in load_layers(self.settings.classes, self.settings.quick)
            for pass_name in self.settings.passes
            for threads in self.settings.threads
        ]

    def run(self) -> None:
        """Measures what is missing, a lap after the other."""
        self.results.note_load(self.device.load())
        self.probe("before", bandwidth=True)
        for lap in range(self.effort.laps):
            by_layer: dict[Layer, list[Cell]] = {}
            for cell in self.cells():
                if self.results.laps_of(*cell.key) > lap:
                    self.tell(cell, [])
                else:
                    by_layer.setdefault(cell.layer, []).append(cell)
            for layer, cells in by_layer.items():
                self.measure_layer(layer, cells)
        self.probe("after", bandwidth=True)
        self.results.finish()

    def measure_layer(self, layer: Layer, cells: list[Cell]) -> None:
        operands = make_operands(layer, self.form)
        before = self.peaks
        pass_name, expected = "", None
        for cell in cells:
            if expected is None or cell.pass_name != pass_name:
                pass_name, expected = cell.pass_name, self.expected(cell.pass_name, operands)
            self.enter_lap(cell, self.measure_cell(cell, operands, expected))
        self.probe(layer.name)
        for cell in cells:
            drift = difference(before[cell.threads], self.peaks[cell.threads])
            rows = self.results.rows_of(*cell.key)
            self.results.put([row | {"drift": max(drift, row["drift"])} for row in rows])

    def enter_lap(self, cell: Cell, rows: list[Row]) -> None:
        before = self.results.rows_of(*cell.key)
        self.results.put(list(map(joined, before, rows)) if before else rows)
        last = self.results.laps_of(*cell.key) == self.effort.laps
        self.tell(cell, self.results.rows_of(*cell.key) if last else [])

    def probe(self, when: str, bandwidth: bool = False) -> None:
        """Asks the machine for its limits now."""
        dtype = self.form.dtype
        self.peaks = {n: self.device.peak_gflops(dtype, n) for n in self.settings.threads}
        for threads, gflops in self.peaks.items():
            gbs = self.device.bandwidth_gbs(threads) if bandwidth else None
            self.results.note_probe(
                {"when": when, "threads": threads, "fma_gflops": gflops, "bandwidth_gbs": gbs}
            )

    def expected(self, pass_name: str, operands: Operands) -> Expected:
        """The results of F.conv2d, in float64 if that is cheap."""
        torch.set_num_threads(max(self.settings.threads))
        chosen = PASSES[pass_name]
        precision = Precision.of(self.form.dtype, self.settings.tf32)
        wide = operands.layer.gflop() * chosen.work <= MOST_EXACT_GFLOP
        exact = wide and self.form.dtype != torch.float64
        baseline = self.device.implementation("conv2d")
        results = chosen.prepare(baseline, operands.double() if exact else operands)()
        return Expected(results, precision if exact else precision.doubled())

    def measure_cell(self, cell: Cell, operands: Operands, expected: Expected) -> list[Row]:
        torch.set_num_threads(cell.threads)
        kernels = without_repetitions(
            [self.enter(self.job(cell, name), operands, expected) for name in self.settings.kernels]
        )
        theirs = {
            name: self.enter(self.job(cell, name), operands, expected)
            for name in self.settings.against
        }
        for kernel in kernels:
            if not kernel.verdict.right:
                kernel.side = None  # no timing for what does not match
        if any(kernel.side for kernel in kernels):
            self.time([*kernels, *theirs.values()])
        work = Work.of(cell.layer, cell.pass_name, self.form.dtype.itemsize)
        return [make_row(kernel, theirs, work) for kernel in kernels]

    def job(self, cell: Cell, implementation: str) -> Job:
        return Job(cell.layer, cell.pass_name, implementation, self.form, cell.threads)

    def enter(self, job: Job, operands: Operands, expected: Expected) -> Contestant:
        """A side after its first call, which is held against what is expected."""
        backend = job.backend(self.device, operands)
        chosen = PASSES[job.pass_name]
        column_bytes = operands.layer.columns() * self.form.dtype.itemsize
        if job.implementation == "unfold" and column_bytes > MOST_COLUMN_BYTES:
            return Contestant(job, backend, Verdict.of_problem("its columns take over 2 GiB"), None)
        side = job.side(self.device, operands)
        try:
            results = side.call()
        except RuntimeError as problem:
            sentence = str(problem).partition("\n")[0]
            return Contestant(job, backend, Verdict.of_problem(f"it raises: {sentence}"), None)
        reductions = chosen.reductions(job.layer)
        precision = expected.precision.grown(self.device.implementation(job.implementation).growth)
        verdict = verify(chosen.results, results, expected.results, reductions, precision)
        return Contestant(job, backend, verdict, side, results=results)

    def time(self, contestants: list[Contestant]) -> None:
        """Times all that take part, then asks for the memory of each."""
        timed = [each for each in contestants if each.side]
        measure([each.side for each in timed if each.side], self.device.clock(), self.effort)
        for each in timed:
            each.extra_bytes = self.device.extra_bytes(each.job)


def without_repetitions(kernels: list[Contestant]) -> list[Contestant]:
    """Without those with Winograd that give, bit for bit, what the plain ones do."""
    results = {each.job.implementation: each.results for each in kernels}
    kept = [each for each in kernels if not same_loops(each, results)]
    for each in kernels:
        each.results = None
    return kept


def same_loops(each: Contestant, results: dict[str, Tensors | None]) -> bool:
    name = each.job.implementation
    ours, others = each.results, results.get(plain(name))
    if name == plain(name) or ours is None or others is None:
        return False
    return all(map(torch.equal, ours, others))
