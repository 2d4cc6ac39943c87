"""How one cell is measured: verify first, then time all sides in turns; memory in a fresh process.

A cell is one pass of one layer on a number of threads. Each of its sides becomes one row:

    layer, class, shape     which convolution
    pass, threads           which cell
    side, ours              the name of a kernel or a baseline, and whether it is on our side
    path                    the loops that ran
    problem                 null, or why it took no part; a wrong baseline is timed all the same
    laps                    how often it was measured
    blocks_ms               milliseconds a call, turn by turn; the turns of all sides are the same
    calls, page_faults      of all blocks together
    extra_mib, error        memory beyond operands and results; the largest error
    gflop, effective_gflop  nominal work, and without the taps on padding
    megabytes               operands and results of one pass, each of which has to be moved once
    drift                   by how much the machine's peak changed while this layer was measured
"""

from __future__ import annotations

import multiprocessing
import resource
import signal
import timeit
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from math import ceil, isfinite
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.layers import Form, Layer, Operands, bytes_of
from benchmarks.peers import PEERS, PeerJob
from benchmarks.sides import PASSES, SINGLE_PASSES, Job, Results, Side, plain
from benchmarks.verify import Precision, Verdict, verify

Row = dict[str, Any]

LEAST_TURNS = 5
MOST_TURNS = 40
# Beyond it a float64 F.conv2d, which is im2col and a matrix product, is not cheap any more.
MOST_EXACT_GFLOP = 50.0
STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


# Time.


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    block_seconds: float = 0.005  # no block is shorter: it would measure the clock
    cell_seconds: float = 1.0  # for all sides together, unless five blocks of each take longer
    laps: int = 1  # that share these seconds, minutes apart

    def turns(self, seconds: float) -> int:
        """How many turns, each of which takes `seconds`, a lap has: all laps have at least five."""
        affordable = int(self.cell_seconds / self.laps / seconds)
        return min(max(affordable, ceil(LEAST_TURNS / self.laps)), MOST_TURNS)


@dataclass
class Timing:
    """One side and its blocks."""

    side: Side
    calls: int = 1  # in a block
    blocks: list[float] = field(default_factory=list)  # seconds a call, turn by turn
    page_faults: int = 0

    def plan(self, block_seconds: float) -> float:
        """Decides how many calls make a block; returns how long that takes."""
        with self.side.scope():
            estimate = seconds_a_call(self.side.run, 1)
            if estimate < block_seconds:  # the first call may have been an odd one
                estimate = seconds_a_call(self.side.run, ceil(block_seconds / estimate))
        self.calls = max(1, ceil(block_seconds / estimate))
        return estimate * self.calls

    def block(self) -> None:
        """Times one block, behind a call that brings the operands back into the caches."""
        with self.side.scope():
            if self.calls > 1:
                self.side.run()
            faults = page_faults()
            self.blocks.append(seconds_a_call(self.side.run, self.calls))
            self.page_faults += page_faults() - faults

    def figures(self, memory: Callable[[], int | None]) -> Row:
        """The part of a row that is measured; `memory` is asked where there is a block."""
        extra = memory() if self.blocks else None
        return {
            "blocks_ms": [round(seconds * 1e3, 6) for seconds in self.blocks],
            "calls": self.calls * len(self.blocks),
            "page_faults": self.page_faults,
            "extra_mib": None if extra is None else extra / 2**20,
        }


def seconds_a_call(run: Callable[[], Any], calls: int) -> float:
    return timeit.timeit(run, number=calls) / calls


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def time_in_turns(timings: Sequence[Timing], effort: Effort) -> None:
    """Times all sides, which are warm, in turns: a slow moment of the machine slows all of them."""
    turn_seconds = sum(timing.plan(effort.block_seconds) for timing in timings)
    for turn in range(effort.turns(turn_seconds)):
        # Back and forth, so that none of them always follows the same one.
        for timing in timings if turn % 2 == 0 else reversed(timings):
            timing.block()


# One cell.


@dataclass(frozen=True)
class Cell:
    """All kernels and baselines on it are timed together."""

    layer: Layer
    pass_name: str
    threads: int

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.layer.name, self.layer.kind, self.pass_name, self.threads

    @property
    def gflop(self) -> float:
        return self.layer.gflop() * PASSES[self.pass_name].work

    def job(self, name: str, form: Form) -> Job:
        job = PeerJob if name in PEERS else Job
        return job(self.layer, self.pass_name, name, form, self.threads)


@dataclass(frozen=True)
class Expected:
    """The results of a pass, and how precise they have to be."""

    results: Results
    precision: Precision


def expected_of(pass_name: str, operands: Operands) -> Expected:
    """The results of F.conv2d, in float64 if that is cheap."""
    form = Form(operands.input.dtype, torch.contiguous_format)
    precision = Precision.of(form.dtype)
    wide = operands.layer.gflop() * PASSES[pass_name].work <= MOST_EXACT_GFLOP
    exact = wide and form.dtype != torch.float64
    job = Job(operands.layer, pass_name, "conv2d", form, torch.get_num_threads())
    results = job.side(operands.double() if exact else operands).results()
    return Expected(results, precision if exact else precision.doubled())


@dataclass
class Contestant:
    """A side after its first call; without `timing` it takes no further part."""

    job: Job
    ours: bool
    path: str
    verdict: Verdict
    timing: Timing | None
    results: Results | None = None  # of the first call, until the kernels are told apart

    def row(self) -> Row:
        timing = self.timing or Timing(Side(lambda: None))
        error = self.verdict.error
        return {
            "side": self.job.name,
            "ours": self.ours,
            "path": self.path,
            "problem": self.verdict.problem,
            "error": error if isfinite(error) else None,
            **timing.figures(partial(extra_bytes, self.job)),
        }


def enter(job: Job, ours: bool, operands: Operands, expected: Expected) -> Contestant:
    """A side after its first call, which is held against the expected results."""
    refusal = job.refusal()
    if refusal:
        return Contestant(job, ours, "", Verdict.of_problem(refusal), None)
    path, side, chosen = job.path(operands), job.side(operands), PASSES[job.pass_name]
    try:
        results = side.results()
    except RuntimeError as problem:
        sentence = str(problem).partition("\n")[0]
        return Contestant(job, ours, path, Verdict.of_problem(f"it raises: {sentence}"), None)
    precision = expected.precision.grown(job.growth)
    reductions = chosen.reductions(job.layer)
    verdict = verify(chosen.results, results, expected.results, reductions, precision)
    # A kernel that is wrong is not timed.
    timing = Timing(side) if verdict.right or not ours else None
    return Contestant(job, ours, path, verdict, timing, results)


def measure_cell(
    kernels: Sequence[Job], baselines: Sequence[Job], operands: Operands,
    expected: Expected, effort: Effort,
) -> list[Row]:  # fmt: skip
    """One row for each side."""
    ours = without_repetitions([enter(job, True, operands, expected) for job in kernels])
    sides = [*ours, *(enter(job, False, operands, expected) for job in baselines)]
    timings = [each.timing for each in sides if each.timing]
    if any(each.timing for each in ours):
        time_in_turns(timings, effort)
    common = work_of(kernels[0])
    return [common | each.row() for each in sides]


def work_of(job: Job) -> Row:
    """What all rows of a cell share."""
    shape = asdict(job.layer)
    factor = PASSES[job.pass_name].work
    moved = job.layer.elements() * job.form.dtype.itemsize / 1e6
    return {
        "layer": shape.pop("name"),
        "class": shape.pop("kind"),
        "shape": shape,
        "pass": job.pass_name,
        "threads": job.threads,
        "laps": 1,
        "gflop": job.layer.gflop() * factor,
        "effective_gflop": job.layer.effective_gflop() * factor,
        "megabytes": moved if job.pass_name in SINGLE_PASSES else None,
        "drift": 0.0,
    }


def joined(before: Row, row: Row) -> Row:
    """A row of all laps so far and the next one; a problem in one of them stays."""
    summed = ("laps", "blocks_ms", "calls", "page_faults")
    return row | {
        **{name: before[name] + row[name] for name in summed},
        "problem": before["problem"] or row["problem"],
        "drift": max(before["drift"], row["drift"]),
    }


def without_repetitions(kernels: list[Contestant]) -> list[Contestant]:
    """Without the kernels with Winograd that give, bit for bit, the results of the plain ones."""
    results = {each.job.name: each.results for each in kernels}
    kept = [each for each in kernels if not same_loops(each, results)]
    for each in kernels:
        each.results = None
    return kept


def same_loops(each: Contestant, results: dict[str, Results | None]) -> bool:
    name = each.job.name
    ours, others = each.results, results.get(plain(name))
    if name == plain(name) or ours is None or others is None:
        return False
    return all(map(torch.equal, ours, others))


# Memory. A process is forked from one that has imported everything and computed nothing: it is as
# fresh as a new one and takes milliseconds to make. Its resident set is the memory in use, because
# its allocator gives back all that is freed. The system counts it to about a quarter of a MiB.


@cache
def extra_bytes(job: Job) -> int | None:
    """The most that one call holds beyond operands and results; None where nothing says it."""
    return None if job.name in PEERS else in_fresh_process(job.threads, partial(extra_of_job, job))


def extra_of_job(job: Job) -> int:
    job.tiny().side().results()  # loads code and starts threads
    return extra_of_call(job.side().results)


def extra_of_call(call: Callable[[], Sequence[Tensor]]) -> int:
    machine.give_back_memory()
    PEAK_RESET.write_text("5")  # the peak becomes the memory that is resident now
    before = resident_bytes("VmRSS")
    results = call()
    return max(0, resident_bytes("VmHWM") - before - bytes_of(results))


def in_fresh_process(threads: int, measure: Callable[[], int]) -> int | None:
    """What `measure` returns there; None if the system counts nothing, or the process died."""
    if not PEAK_RESET.exists() or not machine.can_be_pinned():
        return None
    context = multiprocessing.get_context("forkserver")
    # vmap would import torch._dynamo with its first call, which takes a second.
    context.set_forkserver_preload(["__main__", "benchmarks.measure", "torch._dynamo"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send, args=(sender, threads, measure), daemon=True)
    process.start()
    sender.close()
    try:
        return int(receiver.recv())
    except EOFError:
        return None
    finally:
        process.join()


def send(sender: Connection, threads: int, measure: Callable[[], int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is the one to be interrupted
    machine.give_back_memory()
    torch.set_num_threads(threads)
    sender.send(measure())


def resident_bytes(name: str) -> int:
    """VmRSS, the memory that is resident, or VmHWM, the most that ever was."""
    lines = STATUS.read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kilobytes) << 10
