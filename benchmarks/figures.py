"""From the rows of a result file to figures: medians, ratios, means, changes between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import BadInputError

CELL = ["layer", "class", "pass", "threads"]
SAME = ("dtype", "memory_format", "isa")  # what two runs share that are compared
# Two processes on a quiet machine differ by a few percent, however steady the blocks of each one
# are: their memory has other addresses.
LEAST_CHANGE = 0.05
Document = dict[str, Any]
Row = dict[str, Any]


def figures(rows: Sequence[Row]) -> pd.DataFrame:
    return pd.DataFrame(lines_of(rows))


def lines_of(rows: Sequence[Row]) -> list[Row]:
    """A line for each kernel in each cell; the columns '/ name' are baseline's time / ours."""
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        cells.setdefault(tuple(row[name] for name in CELL), []).append(row)
    return [
        line_of(kernel, [side for side in sides if not side["ours"]])
        for sides in cells.values()
        for kernel in sides
        if kernel["ours"]
    ]


def line_of(kernel: Row, baselines: Sequence[Row]) -> Row:
    line = {name: kernel[name] for name in (*CELL, "path", "problem", "megabytes", "drift")}
    line |= {"kernel": kernel["side"], "effective_gflop": kernel["effective_gflop"]}
    line |= side_figures(kernel, "")
    sides = [kernel, *baselines]
    line["faults"] = max(side["page_faults"] / max(side["calls"], 1) for side in sides)
    for side in baselines:
        name = side["side"]
        line |= side_figures(side, f" {name}") | {f"ran {name}": side["path"]}
        if side["blocks_ms"] and kernel["blocks_ms"] and not kernel["problem"]:
            # Turn by turn: in each of them both sides saw the machine in the same state.
            ratios = np.divide(side["blocks_ms"], kernel["blocks_ms"])
            line |= {f"/ {name}": np.median(ratios), f"± {name}": spread(ratios)}
    return line


def side_figures(side: Row, suffix: str) -> Row:
    figures = {"error": side["error"], "extra": side["extra_mib"]}
    if side["blocks_ms"]:
        median = float(np.median(side["blocks_ms"]))
        figures |= {"ms": median, "best": min(side["blocks_ms"])}
        figures["spread"] = spread(side["blocks_ms"])
        if side["gflop"] is not None:
            figures["GFLOP/s"] = side["gflop"] / median * 1e3
            figures["effective"] = side["effective_gflop"] / median * 1e3
    return {f"{name}{suffix}": value for name, value in figures.items()}


def spread(values: Sequence[float]) -> float:
    """The middle half of the values, as a part of their median."""
    lower, middle, upper = np.percentile(values, [25, 50, 75])
    return float((upper - lower) / middle)


def timed(document: Document) -> pd.DataFrame:
    """The figures of the kernels that were right."""
    lines = figures(document["rows"]) if document["rows"] else pd.DataFrame({"problem": []})
    return lines[lines["problem"].isna()]


def means(lines: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Geometric means of the ratios: a line a class and one for all, a column a pass."""
    logarithms = lines.assign(logarithm=np.log(lines[f"/ {baseline}"]))
    table = logarithms.pivot_table(
        "logarithm", "class", "pass", margins=True, margins_name="all", sort=False, observed=True
    )
    return np.exp(table.drop(columns="all"))


def has(lines: pd.DataFrame, baseline: str) -> bool:
    return f"/ {baseline}" in lines and lines[f"/ {baseline}"].notna().any()


# Two runs beside each other.


def compare(new: Document, old: Document) -> pd.DataFrame:
    """All rows that both runs have, with the figures that say whether one changed.

    A change has to show in the median time, in the best and in the ratio to the baseline: a time
    alone moves with the machine, a median with its other work, a ratio with the baseline.
    """
    for name in SAME:
        before, now = old["settings"][name], new["settings"][name]
        if before != now:
            raise BadInputError(
                f"cannot compare two runs of different {name}: {before!r} and {now!r}"
            )
    both = timed(new).merge(timed(old), on=[*CELL, "kernel"])
    wider = both[["spread_x", "spread_y"]].max(axis=1)
    changes = both[["layer", "pass", "kernel", "threads"]].assign(
        time=both["ms_x"] / both["ms_y"], beyond=1 + LEAST_CHANGE + wider
    )
    changes["best"] = both["best_x"] / both["best_y"]
    changes["ratio"], changes["ratio_beyond"] = changes["time"], changes["beyond"]
    shared = [name for name in new["settings"]["against"] if f"/ {name}_y" in both]
    if shared:
        name = shared[0]
        changes["ratio"] = both[f"/ {name}_y"] / both[f"/ {name}_x"]
        wider = both[[f"± {name}_x", f"± {name}_y"]].max(axis=1)
        changes["ratio_beyond"] = 1 + LEAST_CHANGE + wider
    return changes


def slower(changes: pd.DataFrame) -> pd.DataFrame:
    best = changes["best"] > 1 + LEAST_CHANGE
    time = changes["time"] > changes["beyond"]
    return changes[time & best & (changes["ratio"] > changes["ratio_beyond"])]


def faster(changes: pd.DataFrame) -> pd.DataFrame:
    """By the same measure: the runs exchanged."""
    figures = ["time", "best", "ratio"]
    return changes.loc[slower(changes.assign(**(1 / changes[figures]))).index]
