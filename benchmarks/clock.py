"""The clocks, and the order in which two or more sides are timed.

A clock runs calls and knows the time that they took. Everything around it is the same on every
device.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import ceil
from statistics import median, quantiles
from typing import Any, Protocol

from torch.utils.benchmark import Timer

LEAST_BLOCKS = 5
MOST_BLOCKS = 40


class Clock(Protocol):
    def call(self, run: Callable[[], Any]) -> None:
        """Runs what is to be timed."""

    def now(self) -> float:
        """Seconds that have been timed so far; differences count."""


class WallClock:
    """The time of day: on the CPU a call has done its work when it returns."""

    def call(self, run: Callable[[], Any]) -> None:
        run()

    def now(self) -> float:
        return time.perf_counter()


class EventClock:
    """The time between a device's events around each call, before which its cache is flushed."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.open: list[tuple[Any, Any]] = []
        self.seconds = 0.0

    def call(self, run: Callable[[], Any]) -> None:
        start, end = self.driver.event(), self.driver.event()
        self.driver.flush_cache()
        start.record()
        run()
        end.record()
        self.open.append((start, end))

    def now(self) -> float:
        self.driver.synchronize()
        self.seconds += sum(start.elapsed_time(end) for start, end in self.open) / 1e3
        self.open.clear()
        return self.seconds


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    block_seconds: float = 0.005  # no block is shorter: it would measure the clock
    cell_seconds: float = 1.0  # for all sides together, unless five blocks of each take longer
    laps: int = 1  # that share these seconds, minutes apart


@dataclass
class Side:
    """One of the things that are timed against each other."""

    run: Callable[[], Any]
    scope: Callable[[], AbstractContextManager[Any]]
    calls: int = 1  # in a block
    blocks: dict[int, float] = field(default_factory=dict)  # seconds a call, by turn
    page_faults: int = 0

    def call(self) -> Any:
        with self.scope():
            return self.run()

    def summary(self) -> dict[str, Any]:
        blocks = list(self.blocks.values())
        return {
            "best_ms": min(blocks) * 1e3,
            "median_ms": median(blocks) * 1e3,
            "spread": spread(blocks),
            "calls_per_block": self.calls,
            "blocks_ms": [round(seconds * 1e3, 6) for seconds in blocks],
            "page_faults_per_call": self.page_faults / (self.calls * len(blocks)),
        }


def spread(values: Sequence[float]) -> float:
    """The middle half of the values, as a part of their median."""
    lower, _, upper = quantiles(values, n=4, method="inclusive")
    return (upper - lower) / median(values)


def ratios_by_turn(ours: Side, theirs: Side) -> list[float]:
    """Their time / ours, in blocks that were timed next to each other.

    Both sides of such a ratio saw the machine in the same state. While other processes came and
    went, F.conv2d against itself had ratios of best times from 0.72 to 1.38, for now and then one
    block finds the processor to itself; the medians of these were within 0.94 and 1.05.
    """
    turns = min(ours.blocks, theirs.blocks, key=len)
    return [block_near(theirs, turn) / block_near(ours, turn) for turn in turns]


def block_near(side: Side, turn: int) -> float:
    return side.blocks[min(side.blocks, key=lambda other: abs(other - turn))]


class BlockTimer:
    """torch's Timer on one side, a block at a time."""

    def __init__(self, side: Side, clock: Clock) -> None:
        self.side = side
        self.wanted = LEAST_BLOCKS
        self.timer = Timer(
            "call(run)", globals={"call": clock.call, "run": side.run}, timer=clock.now
        )

    def seconds_a_call(self, calls: int) -> float:
        # Timer.timeit would first make two calls to warm up, which are seconds with the readable
        # loops, and set the number of threads to 1.
        return float(self.timer._timeit(calls)) / calls

    def block(self, turn: int) -> None:
        """Times one block, behind a call that brings the operands back into the caches."""
        with self.side.scope():
            if self.side.calls > 1:
                self.side.run()
            faults = page_faults()
            self.side.blocks[turn] = self.seconds_a_call(self.side.calls)
            self.side.page_faults += page_faults() - faults

    def plan(self, effort: Effort, seconds: float) -> None:
        """Decides how many calls make a block, and how many blocks fill the time: at least five."""
        with self.side.scope():
            estimate = self.seconds_a_call(1)
            if estimate < effort.block_seconds:  # the first call may have been an odd one
                estimate = self.seconds_a_call(ceil(effort.block_seconds / estimate))
        self.side.calls = max(1, ceil(effort.block_seconds / estimate))
        affordable = int(seconds / (estimate * self.side.calls))
        self.wanted = min(max(affordable, LEAST_BLOCKS), MOST_BLOCKS)

    def is_due(self, turn: int, turns: int) -> bool:
        """Whether one of the wanted blocks, spread evenly over all turns, falls on this one."""
        return turn * self.wanted // turns != (turn + 1) * self.wanted // turns


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(sides: Sequence[Side], clock: Clock, effort: Effort) -> None:
    """Times all sides, which are warm, in turns: what slows the machine down slows all of them."""
    timers = [BlockTimer(side, clock) for side in sides]
    for timer in timers:
        timer.plan(effort, effort.cell_seconds / effort.laps / len(sides))
    turns = max(timer.wanted for timer in timers)
    for turn in range(turns):
        # Back and forth, so that none of them always follows the same one.
        for timer in timers if turn % 2 == 0 else reversed(timers):
            if timer.is_due(turn, turns):
                timer.block(turn)
