"""How one cell is measured: verify first, then time all sides in turns; memory in a fresh process.

A cell is one pass of one layer on a number of threads. Each of its sides becomes one row.
"""

from __future__ import annotations

import multiprocessing
import signal
import timeit
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import cache, partial
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.layers import Form, Layer, Operands, make_operands
from benchmarks.peers import PEERS, PeerJob
from benchmarks.sides import BASELINE, PASSES, WINOGRAD, Job, Results, Side
from benchmarks.verify import problem_of, reduction_of

Row = dict[str, Any]

LEAST_TURNS = 5
MOST_TURNS = 40
STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


# Time.


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    cell_seconds: float = 1.0  # for all sides together, unless five blocks of each take longer
    laps: int = 1  # that share these seconds, minutes apart
    block_seconds: float = 0.005  # no block is shorter: it would measure the clock

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
            self.blocks.append(seconds_a_call(self.side.run, self.calls))

    def figures(self, memory: Callable[[], int | None]) -> Row:
        """The part of a row that is measured; `memory` is asked where there is a block."""
        extra = memory() if self.blocks else None
        blocks = [round(seconds * 1e3, 6) for seconds in self.blocks]
        return {"blocks_ms": blocks, "extra_mib": None if extra is None else extra / 2**20}


def seconds_a_call(run: Callable[[], Any], calls: int) -> float:
    return timeit.timeit(run, number=calls) / calls


def time_in_turns(timings: Sequence[Timing], effort: Effort) -> None:
    """Times all sides, which are warm, in turns: a slow moment of the machine slows all of them."""
    turn_seconds = sum(timing.plan(effort.block_seconds) for timing in timings)
    for turn in range(effort.turns(turn_seconds)):
        # Back and forth, so that none of them always follows the same one.
        for timing in timings if turn % 2 == 0 else reversed(timings):
            timing.block()


# The cells of one layer.


def measure_layer(form: Form, settings: Row, effort: Effort, layer: Layer) -> list[Row]:
    operands = make_operands(layer, form)
    rows = []
    for pass_name in settings["passes"]:
        exact = Job(layer, pass_name, BASELINE, form, 1).side(operands.double()).results()
        for threads in settings["threads"]:
            torch.set_num_threads(threads)
            jobs = [
                job_of(layer, pass_name, name, form, threads, ours)
                for role, ours in (("kernels", True), ("against", False))
                for name in settings[role]
            ]
            rows += measure_cell(jobs, operands, exact, effort)
    return rows


def job_of(
    layer: Layer, pass_name: str, name: str, form: Form, threads: int, ours: bool = False
) -> Job:
    return (PeerJob if name in PEERS else Job)(layer, pass_name, name, form, threads, ours)


def measure_cell(
    jobs: Sequence[Job], operands: Operands, exact: Results, effort: Effort
) -> list[Row]:
    """One row for each side, but none for a kernel with Winograd on the path of the plain one."""
    sides = [enter(job, operands, exact) for job in jobs]
    plain_paths = {(each.job.name + WINOGRAD, each.path) for each in sides}
    kept = [each for each in sides if (each.job.name, each.path) not in plain_paths]
    if any(each.timing for each in kept if each.job.ours):
        time_in_turns([each.timing for each in kept if each.timing], effort)
    return [each.row() for each in kept]


@dataclass
class Contestant:
    """A side after its first call; without `timing` it takes no further part."""

    job: Job
    path: str = ""
    problem: str | None = None
    timing: Timing | None = None
    memory: Callable[[Any], int | None] | None = None  # what a job holds; extra_bytes on a CPU

    def row(self) -> Row:
        job, work = self.job, len(PASSES[self.job.pass_name].parts)
        timing = self.timing or Timing(Side(lambda: None))
        return {
            "layer": job.layer.name,
            "class": job.layer.kind,
            "pass": job.label,
            "threads": job.threads,
            "side": job.name,
            "ours": job.ours,
            "path": self.path,
            "problem": self.problem,
            "gflop": job.layer.gflop() * work,
            "effective_gflop": job.layer.effective_gflop() * work,
            **timing.figures(partial(self.memory or extra_bytes, job)),
        }


def enter(job: Job, operands: Operands, exact: Results) -> Contestant:
    """A side after its first call, which is held against the exact results."""
    entered = Contestant(job)
    try:
        entered.path, side = job.path(operands), job.side(operands)
        results = side.results()
    except RuntimeError as problem:
        entered.problem = str(problem).partition("\n")[0]
        return entered
    for name, result, expected in zip(PASSES[job.pass_name].results, results, exact, strict=True):
        reduction = reduction_of(name, job.layer)
        growth = job.growth(reduction)
        entered.problem = entered.problem or problem_of(name, result, expected, reduction, growth)
    if not (job.ours and entered.problem):
        entered.timing = Timing(side)
    return entered


def joined(before: Row, row: Row) -> Row:
    """A row of all laps so far and the next one; a problem in one of them stays."""
    summed = {name: before[name] + row[name] for name in ("laps", "blocks_ms")}
    return row | summed | {"problem": before["problem"] or row["problem"]}


# Memory. A process is forked from one that has imported everything and computed nothing: it is as
# fresh as a new one and takes milliseconds to make. Its resident set is the memory in use, because
# its allocator gives back all that is freed. The system counts it to about a quarter of a MiB.


@cache
def extra_bytes(job: Job) -> int | None:
    """The most that one call holds beyond operands and results; None where nothing says it."""
    return None if job.name in PEERS else in_fresh_process(job.threads, partial(extra_of_job, job))


def extra_of_job(job: Job) -> int:
    one_image = replace(job, layer=replace(job.layer, N=1))
    one_image.side().results()  # loads the code of its paths and starts threads
    return extra_of_call(job.side().results)


def extra_of_call(call: Callable[[], Sequence[Tensor]]) -> int:
    machine.give_back_memory()
    PEAK_RESET.write_text("5")  # the peak becomes the memory that is resident now
    before = resident_bytes("VmRSS")
    # Results may share memory.
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage() for x in call()}
    results = sum(storage.nbytes() for storage in storages.values())
    return max(0, resident_bytes("VmHWM") - before - results)


def in_fresh_process(threads: int, measure: Callable[[], int]) -> int | None:
    """What `measure` returns there; None if the system counts nothing, or the process died."""
    if not PEAK_RESET.exists():
        return None
    context = multiprocessing.get_context("forkserver")
    # vmap would import torch._dynamo with its first call, which takes a second.
    context.set_forkserver_preload(["__main__", "benchmarks.measure", "torch._dynamo"])
    with ProcessPoolExecutor(1, context, prepare_process) as pool:
        try:
            return pool.submit(in_new_thread, threads, measure).result()
        except BrokenProcessPool:
            return None


def prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is the one to be interrupted
    machine.give_back_memory()


def in_new_thread(threads: int, measure: Callable[[], int]) -> int:
    """What `measure` returns in a new thread, whose heap is new as well.

    Imports leave holes in the heap of the first thread. A block in a hole stays resident after it
    is freed, and would count as memory in use.
    """
    with ThreadPoolExecutor(1, "measure", torch.set_num_threads, (threads,)) as thread:
        return thread.submit(measure).result()


def resident_bytes(name: str) -> int:
    """VmRSS, the memory that is resident, or VmHWM, the most that ever was."""
    lines = STATUS.read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kilobytes) << 10
