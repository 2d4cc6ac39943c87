"""The report's tables, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log
from typing import Any

from benchmarks.comparison import Change, timed
from benchmarks.results import MOST_DRIFT, Document, Row, peak_of

MAIN_BASELINE = "conv2d"
HALF = ("float16", "bfloat16")
Group = tuple[str, int]  # kernel, threads


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The first column is text, the others are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)] + [""]


def geometric_mean(ratios: Sequence[float]) -> float:
    return exp(sum(map(log, ratios)) / len(ratios))


def unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def groups_of(rows: Sequence[Row]) -> list[Group]:
    return unique((row["kernel"], row["threads"]) for row in rows)


def name_of(group: Group) -> str:
    kernel, threads = group
    return f"{kernel}, {threads} thread{'s' if threads > 1 else ''}"


def rows_of(rows: Sequence[Row], group: Group) -> list[Row]:
    return [row for row in rows if (row["kernel"], row["threads"]) == group]


def means_table(rows: Sequence[Row], baseline: str) -> list[str]:
    """Geometric means of the ratios: a line a class and one for all, a column a pass."""
    passes = unique(row["pass"] for row in rows)
    classes = [*unique(row["class"] for row in rows), "all"]
    lines = [
        [kind, *(mean_cell(rows, kind, pass_name, baseline) for pass_name in passes)]
        for kind in classes
    ]
    return table(["class", *passes], lines)


def mean_cell(rows: Sequence[Row], kind: str, pass_name: str, baseline: str) -> str:
    ratios = ratios_of(rows, kind, pass_name, baseline)
    return f"{geometric_mean(ratios):.2f}" if ratios else "-"


def ratios_of(rows: Sequence[Row], kind: str, pass_name: str, baseline: str) -> list[float]:
    return [
        row["ratios"][baseline]
        for row in rows
        if kind in ("all", row["class"]) and row["pass"] == pass_name and baseline in row["ratios"]
    ]


def means(document: Document) -> list[str]:
    lines = ["## Geometric means", "", "Time of the baseline / ours: above 1, ours is faster.", ""]
    for group in groups_of(timed(document)):
        rows = rows_of(timed(document), group)
        for baseline in document["settings"]["against"]:
            if any(baseline in row["ratios"] for row in rows):
                lines += [f"### {name_of(group)}, against {baseline}", ""]
                lines += means_table(rows, baseline)
    return lines


def below_one(document: Document) -> list[str]:
    """Every row that loses against F.conv2d, by name."""
    lines = [f"## Slower than {MAIN_BASELINE}", ""]
    for group in groups_of(timed(document)):
        rows = [row for row in rows_of(timed(document), group) if MAIN_BASELINE in row["ratios"]]
        slower = [row for row in rows if row["ratios"][MAIN_BASELINE] < 1]
        lines += [f"{name_of(group)}: {len(slower)} of {len(rows)} rows.", ""]
        for pass_name in unique(row["pass"] for row in slower):
            named = ", ".join(
                f"{row['layer']} {row['ratios'][MAIN_BASELINE]:.2f}"
                for row in slower
                if row["pass"] == pass_name
            )
            lines.append(f"- {pass_name}: {named}")
        lines += [""] if slower else []
    return lines


def class_tables(document: Document) -> list[str]:
    lines = []
    for kind in unique(row["class"] for row in document["rows"]):
        rows = [row for row in document["rows"] if row["class"] == kind]
        head = ["layer", "pass", "kernel", *figure_names(document)]
        lines += [f"## {kind}", ""]
        lines += table(head, [layer_line(row, document) for row in rows])
    return lines


def figure_names(document: Document) -> list[str]:
    against = document["settings"]["against"]
    error = ["error", *(f"error {name}" for name in against)] if is_half(document) else []
    return [
        "threads", "ms", "best", "spread", "GFLOP/s", "effective", "of peak",
        *(f"/ {name}" for name in against),
        "extra MiB", *(f"extra {name}" for name in against),
        *error,
        "PyTorch ran",
    ]  # fmt: skip


def is_half(document: Document) -> bool:
    return document["settings"]["dtype"] in HALF


def layer_line(row: Row, document: Document) -> list[str]:
    start = [row["layer"], row["pass"], row["kernel"], str(row["threads"])]
    against = document["settings"]["against"]
    if row["problem"]:
        width = len(figure_names(document)) - 2
        return [*start, f"**wrong**: {row['problem']}", *[""] * width]
    ours, theirs = row["ours"], [row["baselines"][name] for name in against]
    sides = [ours, *theirs]
    peak = peak_of(document, "fma_gflops", row["threads"])
    return [
        *start,
        f"{ours['median_ms']:.3f}",
        f"{ours['best_ms']:.3f}",
        f"{ours['spread']:.0%}{'~' if drifted(row) else ''}",
        f"{ours['gflops']:.1f}",
        f"{ours['effective_gflops']:.1f}",
        f"{ours['effective_gflops'] / peak:.1%}",
        *(number(row["ratios"].get(name), ".2f") for name in against),
        *(number(side.get("extra_mib"), ".1f") for side in sides),
        *([number(side.get("error"), ".1e") for side in sides] if is_half(document) else []),
        ", ".join(row["baselines"][name]["backend"] for name in against if name != "unfold"),
    ]


def drifted(row: Row) -> bool:
    return row["drift"] > MOST_DRIFT


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def changes(compared: Sequence[Change], older: str) -> list[str]:
    """What became slower or faster, beyond what either run scatters."""
    lines = [f"## Compared with {older}", ""]
    for word in ("slower", "faster"):
        named = [change for change in compared if getattr(change, word)]
        lines += [f"{len(named)} of {len(compared)} rows became {word} beyond the spread.", ""]
        head = ["layer", "pass", "kernel", "threads", "time", "beyond", "per baseline", "beyond"]
        if named:
            lines += table(head, map(change_line, named))
    return lines


def change_line(change: Change) -> list[str]:
    layer, pass_name, threads, kernel = change.key
    figures = [
        f"x {value:.2f}"
        for moved in (change.time, change.against)
        for value in (moved.by, 1 + moved.beyond)
    ]
    return [layer, pass_name, kernel, str(threads), *figures]
