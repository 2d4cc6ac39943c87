"""Two runs beside each other: which rows became faster or slower by more than they scatter."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.errors import BadInputError
from benchmarks.results import Document, Row, key_of

# Two processes on a quiet machine differ by a few percent, whatever the blocks of each one say:
# their memory lies elsewhere.
LEAST_CHANGE = 0.05
SAME = ("device", "dtype", "memory_format", "tf32")


@dataclass(frozen=True)
class Moved:
    """One figure, new / old, and how far from 1 that must be to be believed."""

    by: float
    beyond: float

    @property
    def up(self) -> bool:
        return self.by > 1 + self.beyond

    @property
    def down(self) -> bool:
        return self.by < 1 / (1 + self.beyond)


@dataclass(frozen=True)
class Change:
    """One row in two runs."""

    key: tuple[str, str, int, str]
    time: Moved
    best: Moved  # the time of the best block
    against: Moved  # the time in units of the baseline's

    @property
    def slower(self) -> bool:
        return self.time.up and self.best.up and self.against.up

    @property
    def faster(self) -> bool:
        return self.time.down and self.best.down and self.against.down


def compare(new: Document, old: Document) -> list[Change]:
    """All rows that both runs have.

    A change has to show in the median time, in the best and in the ratio to the baseline: a time
    alone moves with the machine, a median with its other work, a ratio with the baseline.
    """
    for name in SAME:
        before, now = old["settings"][name], new["settings"][name]
        if before != now:
            raise BadInputError(
                f"cannot compare two runs of different {name}: {before!r} and {now!r}"
            )
    old_rows = {key_of(row): row for row in timed(old)}
    pairs = [(row, old_rows[key_of(row)]) for row in timed(new) if key_of(row) in old_rows]
    return [change_of(*pair) for pair in pairs]


def timed(document: Document) -> list[Row]:
    return [row for row in document["rows"] if row["problem"] is None]


def change_of(new: Row, old: Row) -> Change:
    spreads = new["ours"]["spread"], old["ours"]["spread"]
    time = Moved(new["ours"]["median_ms"] / old["ours"]["median_ms"], LEAST_CHANGE + max(spreads))
    best = Moved(new["ours"]["best_ms"] / old["ours"]["best_ms"], LEAST_CHANGE)
    shared = [name for name in new["ratios"] if name in old["ratios"]]
    if not shared:
        return Change(key_of(new), time, best, time)
    name = shared[0]
    beyond = LEAST_CHANGE + max(row["ratio_spreads"][name] for row in (new, old))
    against = Moved(old["ratios"][name] / new["ratios"][name], beyond)
    return Change(key_of(new), time, best, against)
