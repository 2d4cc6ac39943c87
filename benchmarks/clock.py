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
from typing import Any, Protocol

from torch.utils.benchmark import Timer

LEAST_TURNS = 5
MOST_TURNS = 40


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

    def turns(self, seconds: float) -> int:
        """How many turns of so many seconds a lap has: together at least five."""
        affordable = int(self.cell_seconds / self.laps / seconds)
        return min(max(affordable, ceil(LEAST_TURNS / self.laps)), MOST_TURNS)


@dataclass
class Side:
    """One of the things that are timed against each other."""

    run: Callable[[], Any]
    scope: Callable[[], AbstractContextManager[Any]]
    calls: int = 1  # in a block
    blocks: list[float] = field(default_factory=list)  # seconds a call, turn by turn
    page_faults: int = 0

    def call(self) -> Any:
        with self.scope():
            return self.run()

    def timings(self) -> dict[str, Any]:
        return {
            "blocks_ms": [round(seconds * 1e3, 6) for seconds in self.blocks],
            "calls": self.calls * len(self.blocks),
            "page_faults": self.page_faults,
        }


class BlockTimer:
    """torch's Timer on one side, a block at a time."""

    def __init__(self, side: Side, clock: Clock) -> None:
        self.side = side
        self.timer = Timer(
            "call(run)", globals={"call": clock.call, "run": side.run}, timer=clock.now
        )

    def seconds_a_call(self, calls: int) -> float:
        # Timer.timeit would first make two calls to warm up, which are seconds with the readable
        # loops, and set the number of threads to 1.
        return float(self.timer._timeit(calls)) / calls

    def block(self) -> None:
        """Times one block, behind a call that brings the operands back into the caches."""
        with self.side.scope():
            if self.side.calls > 1:
                self.side.run()
            faults = page_faults()
            self.side.blocks.append(self.seconds_a_call(self.side.calls))
            self.side.page_faults += page_faults() - faults

    def plan(self, block_seconds: float) -> float:
        """Decides how many calls make a block; returns how long that takes."""
        with self.side.scope():
            estimate = self.seconds_a_call(1)
            if estimate < block_seconds:  # the first call may have been an odd one
                estimate = self.seconds_a_call(ceil(block_seconds / estimate))
        self.side.calls = max(1, ceil(block_seconds / estimate))
        return estimate * self.side.calls


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(sides: Sequence[Side], clock: Clock, effort: Effort) -> None:
    """Times all sides, which are warm, in turns: what slows the machine down slows all of them."""
    timers = [BlockTimer(side, clock) for side in sides]
    turn_seconds = sum(timer.plan(effort.block_seconds) for timer in timers)
    for turn in range(effort.turns(turn_seconds)):
        # Back and forth, so that none of them always follows the same one.
        for timer in timers if turn % 2 == 0 else reversed(timers):
            timer.block()
