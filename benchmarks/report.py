"""Makes tables and a picture of a result file, and says what changed since older ones.

    python benchmarks/report.py results.json --output build/bench
    python benchmarks/report.py results.json older.json --output build/bench

DIR/report.md has everything, DIR/README-table.md the means of the fastest kernel alone,
without and with Winograd.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as python -m would

from benchmarks import BadInputError, Parser, exit_code_of
from benchmarks.sides import BASELINE, plain

FORMAT, VERSION = "convgrad_ext benchmark", 3
CELL = ["layer", "class", "pass", "threads"]
RATIO = f"/ {BASELINE}"
# Two processes on a quiet machine differ by a few percent, however steady the blocks of each one
# are: their memory has other addresses.
LEAST_CHANGE = 0.05
MOST_DRIFT = 0.05  # of the probes
MOST_LOAD = 0.5  # processors that other programs take

Document = dict[str, Any]
Row = dict[str, Any]


def load(path: Path) -> Document:
    """The document in a result file, or one sentence about why it is none."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise BadInputError(f"cannot read {path}: {problem}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadInputError(f"{path} is not a result file of benchmarks/run.py")
    if document["version"] != VERSION:
        raise BadInputError(f"{path} has version {document['version']} of the result format")
    return document


# From rows to figures.


def lines_of(rows: Sequence[Row]) -> list[Row]:
    """A line for each kernel in each cell, whose rows follow each other."""
    lines = []
    for _, cell in groupby(rows, itemgetter(*CELL)):
        sides = [*cell]
        baselines = [side for side in sides if not side["ours"]]
        lines += [line_of(side, baselines) for side in sides if side["ours"]]
    return lines


def line_of(kernel: Row, baselines: Sequence[Row]) -> Row:
    """The figures of a kernel; '/ name' is the baseline's time / ours."""
    times = kernel["blocks_ms"] or [np.nan]
    line = {name: kernel[name] for name in (*CELL, "path", "problem")}
    line |= {"kernel": kernel["side"], "extra": kernel["extra_mib"]}
    line |= {"ms": float(np.median(times)), "best": min(times), "spread": spread(times)}
    if kernel["gflop"]:
        line["GFLOP/s"] = kernel["gflop"] / line["ms"] * 1e3
        line["effective"] = kernel["effective_gflop"] / line["ms"] * 1e3
    for side in baselines:
        name, ratios = side["side"], [np.nan]
        if side["blocks_ms"] and kernel["blocks_ms"] and not kernel["problem"]:
            # Turn by turn: in each of them both sides saw the machine in the same state.
            ratios = np.divide(side["blocks_ms"], kernel["blocks_ms"])
        line |= {f"/ {name}": float(np.median(ratios)), f"± {name}": spread(ratios)}
        line |= {f"extra {name}": side["extra_mib"], f"ran {name}": side["path"] or None}
    return line


def spread(values: Sequence[float]) -> float:
    """The middle half of the values, as a part of their median."""
    lower, middle, upper = np.percentile(values, [25, 50, 75])
    return float((upper - lower) / middle)


def timed(path: Path, document: Document) -> pd.DataFrame:
    """The figures of the kernels that were right."""
    lines = [line for line in lines_of(document["rows"]) if not line["problem"]]
    if not lines:
        raise BadInputError(f"{path} has no timed rows")
    return pd.DataFrame(lines)


def means(lines: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Geometric means of the ratios: a line a class and one for all, a column a pass."""
    logarithms = lines.assign(logarithm=np.log(lines[f"/ {baseline}"]))
    found = logarithms.pivot_table(
        "logarithm", "class", "pass", margins=True, margins_name="all", sort=False, observed=True
    )
    return np.exp(found.drop(columns="all"))


# The machine.


def limits_of(document: Document, which: str) -> pd.DataFrame:
    """The "max" or "min" of the machine's limits that the probes found, by number of threads."""
    probes = pd.DataFrame(document["probes"]).groupby("threads")
    return probes[["fma_gflops", "bandwidth_gbs"]].agg(which)


def drift_of(document: Document) -> float:
    """The largest difference between two probes of one kind, as a part of the larger one."""
    drift = 1 - limits_of(document, "min") / limits_of(document, "max")
    return float(drift.max(axis=None))


def verdict(document: Document) -> str:
    """Whether the machine was quiet, in plain words."""
    load, drift, reasons = document["load"], drift_of(document), []
    threads = max(document["settings"]["threads"])
    moved, average = f"its own limits moved by {drift:.0%} during the run", "its load average was"
    if load["other"] > MOST_LOAD:
        reasons += [f"it had other work for {load['other']:.1f} processors when the run began"]
    if load["after"] - threads > MOST_LOAD:
        reasons += [f"{average} {load['after']:.1f} after a run of {counted(threads)}"]
    if drift > MOST_DRIFT:
        reasons += [moved]
    if reasons:
        return f"The machine was not quiet: {', and '.join(reasons)}."
    averages = f"{load['before']:.1f} before and {load['after']:.1f} after it"
    return f"The machine was quiet: {moved}, {average} {averages}."


def doubts(document: Document) -> list[str]:
    """One sentence each; none if the run is complete and right."""
    rows = document["rows"]
    wrong = sum(row["ours"] and row["problem"] is not None for row in rows)
    absent = {
        f"{row['side']} took no part in some rows: {row['problem']}."
        for row in rows
        if row["problem"] and not row["ours"] and not row["blocks_ms"]
    }
    return [
        *([f"Rows that are wrong and were not timed: {wrong}."] if wrong else []),
        *([] if document["complete"] else ["The run is not complete."]),
        *sorted(absent),
    ]


def conditions(document: Document) -> list[str]:
    """The machine, its versions and the settings, which belong beside every number."""
    machine, settings = document["machine"], document["settings"]
    held = f"both sides held to {settings['isa']}, " if settings["isa"] else ""
    precision = " as tf32" if settings.get("precision") == "tf32" else ""
    facts = [
        f"{machine['processor']}, {machine['processors']} processors, "
        f"{machine['instruction set']}, {machine['system']}",
        *([machine["card"]] if "card" in machine else []),
        ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
        *(
            f"{counted(threads)}: peak {peak:.0f} GFLOP/s, memory {bandwidth:.1f} GB/s, as probed"
            for threads, peak, bandwidth in limits_of(document, "max").itertuples()
        ),
        f"{settings['dtype']}{precision}, {settings['memory_format']}, {held}"
        f"{settings['set']} set; allocator {machine['allocator']}",
    ]
    sentences = verdict(document), *doubts(document)
    return ["\n".join(f"- {fact}" for fact in facts), *(f"**{each}**" for each in sentences)]


def counted(threads: int) -> str:
    """A GPU has none that anyone counts."""
    if threads == 0:
        return "GPU"
    return f"{threads} thread{'s' if threads > 1 else ''}"


# The sections, each a list of paragraphs in Markdown.

ROW = dict.fromkeys(("layer", "pass", "kernel", "threads"), "")


def table(lines: pd.DataFrame, forms: dict[str, str]) -> str:
    """These columns, each in its form, without those that are empty; the first one is text."""
    if lines.empty:
        return ""
    known = [name for name in forms if name in lines and lines[name].notna().any()]
    cells = [
        ["-" if pd.isna(value) else format(value, forms[name]) for name, value in line.items()]
        for line in lines[known].to_dict("records")
    ]
    rule = ["---", *["---:"] * (len(known) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (known, rule, *cells))


def means_section(lines: pd.DataFrame, heading: str, against: Sequence[str]) -> list[str]:
    """A table for each kernel, number of threads and baseline."""
    section = []
    for (kernel, threads), group in lines.groupby(["kernel", "threads"], sort=False):
        for baseline in against:
            if group[f"/ {baseline}"].notna().any():
                found = means(group, baseline).reset_index()
                section += [heading.format(f"{kernel}, {counted(threads)}", baseline)]
                section += [table(found, dict.fromkeys(found, ".2f") | {"class": ""})]
    return section


def slower_section(lines: pd.DataFrame) -> list[str]:
    slower = lines[lines[RATIO] < 1]
    count = f"{len(slower)} of {lines[RATIO].count()} rows."
    return [f"## Slower than {BASELINE}", count, table(slower, ROW | {"path": "", RATIO: ".2f"})]


def class_sections(document: Document) -> list[str]:
    """Every figure of every row."""
    lines = pd.DataFrame(lines_of(document["rows"]))
    if "effective" in lines:
        peaks = limits_of(document, "max")["fma_gflops"]
        lines["of peak"] = lines["effective"] / lines["threads"].map(peaks)
    lines["path"] = ("**wrong**: " + lines["problem"]).fillna(lines["path"])
    against = document["settings"]["against"]
    forms = ROW | {
        "path": "", "ms": ".3f", "best": ".3f", "spread": ".0%",
        "GFLOP/s": ".1f", "effective": ".1f", "of peak": ".1%",
        **{f"/ {name}": ".2f" for name in against},
        **dict.fromkeys(("extra", *(f"extra {name}" for name in against)), ".1f"),
        f"ran {BASELINE}": "",
    }  # fmt: skip
    groups = lines.groupby("class", sort=False)
    return [part for kind, group in groups for part in (f"## {kind}", table(group, forms))]


def changes_section(new: Document, lines: pd.DataFrame, path: Path) -> list[str]:
    """What became slower or faster than in an older file, beyond the spread of either run.

    A change has to show in the median time, in the best and in the ratio to the baseline: a time
    alone moves with the machine, a median with its other work, a ratio with the baseline.
    """
    old = load(path)
    for name in ("dtype", "memory_format", "isa"):
        before, now = old["settings"][name], new["settings"][name]
        if before != now:
            problem = f"cannot compare two runs of different {name}: {before!r} and {now!r}"
            raise BadInputError(problem)
    both = lines.merge(timed(path, old), on=[*CELL, "kernel"], suffixes=("", " before"))
    both["time"], both["best"] = (both[name] / both[f"{name} before"] for name in ("ms", "best"))
    both["per baseline"] = both[f"{RATIO} before"] / both[RATIO]
    both["beyond"], both["beyond "] = (
        1 + LEAST_CHANGE + both[[name, f"{name} before"]].max(axis=1)
        for name in ("spread", f"± {BASELINE}")
    )
    factors = both[["time", "best", "per baseline"]]
    limits = both.assign(least=1 + LEAST_CHANGE)[["beyond", "least", "beyond "]].to_numpy()
    section = [f"## Compared with {path.name}"]
    for word, changed in (("slower", factors > limits), ("faster", 1 / factors > limits)):
        found = both[changed.all(axis=1)]
        section += [f"{len(found)} of {len(both)} rows became {word} beyond the spread."]
        forms = dict.fromkeys(("time", "beyond", "per baseline", "beyond "), ".2f")
        section += [table(found, ROW | forms)]
    return section + [f"The older run: {sentence}" for sentence in (verdict(old), *doubts(old))]


def draw_ratios(ratios: pd.DataFrame) -> Figure:
    """Geometric means of the ratios, a bar a pass, by class."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    (ratios - 1).plot.bar(ax=axes, bottom=1, width=0.8, rot=0, xlabel="")
    axes.axhline(1, color="black", linewidth=1)
    axes.set_yscale("log", base=2)
    low, high = axes.get_ylim()
    axes.set(ylim=(min(low, 0.5), max(high, 2)), ylabel=f"speed / that of {BASELINE}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False, fontsize=8, ncols=3)
    return figure


# The command.


def main(argv: list[str]) -> int:
    parser = Parser("benchmarks/report.py", __doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("older", type=Path, nargs="*")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    arguments = parser.parse_args(argv)
    document = load(arguments.results)
    lines = timed(arguments.results, document)
    compared = [changes_section(document, lines, path) for path in arguments.older]
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    _, first = next(iter(lines.groupby(["kernel", "threads"], sort=False)))
    draw_ratios(means(first, BASELINE)).savefig(folder / "ratios.png", dpi=150)
    write(folder / "report.md", report(document, lines, compared))
    write(folder / "README-table.md", readme_table(document, lines))
    return 0


def report(document: Document, lines: pd.DataFrame, compared: list[list[str]]) -> list[str]:
    return [
        "# Benchmark",
        *conditions(document),
        *(part for section in compared for part in section),
        "## Geometric means",
        "Time of the baseline / ours: above 1, ours is faster.",
        *means_section(lines, "### {}, against {}", document["settings"]["against"]),
        "![ratios by class](ratios.png)",
        *slower_section(lines),
        *class_sections(document),
    ]


def readme_table(document: Document, lines: pd.DataFrame) -> list[str]:
    """Of the fastest kernel alone, without and with Winograd, with the conditions under it."""
    kernels = lines["kernel"].map(plain)
    fastest = lines[kernels == kernels.iloc[0]]
    return [
        "Speed of our kernel / that of `F.conv2d`, geometric means by class and pass.",
        *means_section(fastest, "**{}**", [BASELINE]),
        "![ratios by class](ratios.png)",
        *conditions(document),
    ]


def write(path: Path, paragraphs: Sequence[str]) -> None:
    path.write_text("\n\n".join(filter(None, paragraphs)) + "\n")
    print(path)


if __name__ == "__main__":
    sys.exit(exit_code_of("benchmarks/report.py", main, sys.argv[1:]))
