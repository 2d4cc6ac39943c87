"""Makes tables and pictures of a result file, and says what changed since older ones.

    python benchmarks/report.py results.json --output build/bench
    python benchmarks/report.py results.json older.json --output build/bench

DIR/report.md has everything, DIR/README-table.md the means of the fastest kernel alone,
without and with Winograd.
"""

from __future__ import annotations

import json
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as python -m would

from benchmarks import BadInputError, Parser, exit_code_of, plots
from benchmarks.figures import compare, faster, figures, has, means, slower, timed

FORMAT = "convgrad_ext benchmark"
VERSION = 3
MAIN_BASELINE = "conv2d"
HALF = ("float16", "bfloat16")
MOST_DRIFT = 0.05  # of the probes
MOST_LOAD = 0.5  # processors that other programs take
MOST_PAGE_FAULTS = 256  # pages of a MiB a call: a quarter of a millisecond

Document = dict[str, Any]
Row = dict[str, Any]


def load(path: Path) -> Document:
    """The document in a result file, or one sentence about why it is none."""
    try:
        document = json.loads(path.read_text())
    except OSError as problem:
        raise BadInputError(f"cannot read {path}: {problem.strerror}") from None
    except ValueError:
        raise BadInputError(f"{path} is not a result file: it is no JSON") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadInputError(f"{path} is not a result file of benchmarks/run.py")
    if document["version"] != VERSION:
        raise BadInputError(
            f"{path} has version {document['version']} of the result format and version {VERSION} "
            "is read here: measure again"
        )
    return document


# The machine.


def peak_of(document: Document, figure: str, threads: int) -> float:
    """The machine's limit: the best that any probe of the run has seen."""
    probes = pd.DataFrame(document["probes"])
    return float(probes.loc[probes["threads"] == threads, figure].max())


def drift_of(document: Document) -> float:
    """The largest difference between two probes of one kind, as a part of the larger one."""
    probes = pd.DataFrame(document["probes"])
    limits = probes.groupby("threads")[["fma_gflops", "bandwidth_gbs"]].agg(["min", "max"])
    lows, highs = (limits.xs(which, axis=1, level=1) for which in ("min", "max"))
    return float((1 - lows / highs).max(axis=None))


def disturbances(document: Document) -> list[str]:
    """Each reason to say that the machine was not quiet."""
    load, drift = document["load"], drift_of(document)
    threads = max(document["settings"]["threads"])
    busy = f"it had other work for {load['other']:.1f} processors when the run began"
    loaded = f"its load average was {load['after']:.1f} after a run of {counted(threads)}"
    moved = f"its own limits moved by {drift:.0%} during the run"
    found = {
        busy: load["other"] > MOST_LOAD,
        loaded: load["after"] - threads > MOST_LOAD,
        moved: drift > MOST_DRIFT,
    }
    return [reason for reason, holds in found.items() if holds]


def verdict(document: Document) -> str:
    """Whether the machine was quiet, in plain words."""
    reasons = disturbances(document)
    if reasons:
        return (
            f"The machine was not quiet: {', and '.join(reasons)}. Rows that were measured while "
            "its peak moved have a ~ behind their spread."
        )
    load = document["load"]
    return (
        f"The machine was quiet: its own limits moved by {drift_of(document):.0%} during the run, "
        f"its load average was {load['before']:.1f} before and {load['after']:.1f} after it."
    )


def warnings(document: Document) -> list[str]:
    """One sentence each; none if the run is complete and right."""
    lines = figures(document["rows"])
    wrong, faulting = lines["problem"].count(), (lines["faults"] > MOST_PAGE_FAULTS).sum()
    absent = {(row["side"], row["problem"]) for row in document["rows"] if is_absent(row)}
    found = {
        f"Rows that are wrong and were not timed: {wrong}.": wrong,
        f"Rows whose calls had page faults, which take time: {faulting}.": faulting,
        "The run is not complete.": not document["complete"],
        **{
            f"{name} took no part in some rows: {problem}.": True
            for name, problem in sorted(absent)
        },
    }
    return [sentence for sentence, holds in found.items() if holds]


def is_absent(row: Row) -> bool:
    """Whether a baseline was not timed, for another reason than that of the row."""
    return not row["ours"] and not row["blocks_ms"] and row["problem"] is not None


def conditions(document: Document) -> list[str]:
    """The machine, its versions and the settings, which belong beside every number."""
    machine, settings = document["machine"], document["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    limits = [
        f"- {counted(threads)}: peak {peak_of(document, 'fma_gflops', threads):.0f} GFLOP/s, "
        f"memory {peak_of(document, 'bandwidth_gbs', threads):.1f} GB/s, as probed"
        for threads in settings["threads"]
    ]
    held = f"both sides held to {settings['isa']}, " if settings["isa"] else ""
    return [
        f"- {machine['processor']}, {machine['processors']} processors, "
        f"{machine['instruction set']}, {machine['system']}",
        f"- {versions}",
        *limits,
        f"- {settings['dtype']}, {settings['memory_format']}, {held}"
        f"{settings['set']} set; allocator {machine['allocator']}",
        "",
    ]


# The tables, in Markdown.


def counted(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The first column is text, the others are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)] + [""]


def means_table(lines: pd.DataFrame, baseline: str) -> list[str]:
    found = means(lines, baseline)
    rows = [[kind, *(number(x, ".2f") for x in values)] for kind, *values in found.itertuples()]
    return table(["class", *found.columns], rows)


def number(value: float | None, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)


def groups_of(lines: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    groups = lines.groupby(["kernel", "threads"], sort=False)
    return [(f"{kernel}, {counted(threads)}", group) for (kernel, threads), group in groups]


def means_section(document: Document, lines: pd.DataFrame) -> list[str]:
    section = [
        "## Geometric means",
        "",
        "Time of the baseline / ours: above 1, ours is faster.",
        "",
    ]
    for name, group in groups_of(lines):
        for baseline in document["settings"]["against"]:
            if has(group, baseline):
                section += [f"### {name}, against {baseline}", "", *means_table(group, baseline)]
    return section


def slower_section(lines: pd.DataFrame) -> list[str]:
    """Every row that loses against F.conv2d, by name."""
    section = [f"## Slower than {MAIN_BASELINE}", ""]
    for name, group in groups_of(lines):
        if not has(group, MAIN_BASELINE):
            continue
        ratios = group[f"/ {MAIN_BASELINE}"]
        slower = group[ratios < 1]
        section += [f"{name}: {len(slower)} of {ratios.count()} rows.", ""]
        for pass_name, rows in slower.groupby("pass", sort=False):
            named = zip(rows["layer"], rows[f"/ {MAIN_BASELINE}"], strict=True)
            section.append(f"- {pass_name}: {', '.join(f'{x} {ratio:.2f}' for x, ratio in named)}")
        section += [""] if len(slower) else []
    return section


def class_sections(document: Document) -> list[str]:
    lines = figures(document["rows"])
    if "effective" in lines:
        peaks = [peak_of(document, "fma_gflops", threads) for threads in lines["threads"]]
        lines["of peak"] = lines["effective"] / peaks
    forms = columns_of(document)
    empty = lines.isna() | (lines == "")
    known = empty.columns[~empty.all()]
    columns = {name: form for name, form in forms.items() if name in known}
    sections = []
    for kind, group in lines.groupby("class", sort=False):
        rows = [layer_line(line, columns) for line in group.to_dict("records")]
        sections += [f"## {kind}", "", *table(["layer", "pass", "kernel", *columns], rows)]
    return sections


def columns_of(document: Document) -> dict[str, str]:
    """The figures of the class tables, with the form in which each is written."""
    against = document["settings"]["against"]
    errors = ["error", *(f"error {name}" for name in against)]
    return {
        "threads": "d", "path": "s", "ms": ".3f", "best": ".3f", "spread": ".0%",
        "GFLOP/s": ".1f", "effective": ".1f", "of peak": ".1%",
        **{f"/ {name}": ".2f" for name in against},
        **dict.fromkeys(("extra", *(f"extra {name}" for name in against)), ".1f"),
        **dict.fromkeys(errors if document["settings"]["dtype"] in HALF else (), ".1e"),
        **{f"ran {name}": "s" for name in against if name in (MAIN_BASELINE, "aten")},
    }  # fmt: skip


def layer_line(line: Row, columns: dict[str, str]) -> list[str]:
    start = [line["layer"], line["pass"], line["kernel"]]
    if not pd.isna(line["problem"]):
        blank = [""] * (len(columns) - 2)
        return [*start, str(line["threads"]), f"**wrong**: {line['problem']}", *blank]
    cells = {name: number(line[name], form) for name, form in columns.items()}
    cells["spread"] += "~" if line["drift"] > MOST_DRIFT else ""
    return [*start, *cells.values()]


# Two runs beside each other.


def changes_section(new: Document, old: Document, name: str) -> list[str]:
    """What became slower or faster, beyond the spread of either run."""
    changes = compare(new, old)
    section = [f"## Compared with {name}", ""]
    for word, found in (("slower", slower(changes)), ("faster", faster(changes))):
        section += [f"{len(found)} of {len(changes)} rows became {word} beyond the spread.", ""]
        head = ["layer", "pass", "kernel", "threads", "time", "beyond", "per baseline", "beyond"]
        if len(found):
            section += table(head, map(change_line, found.to_dict("records")))
    doubts = [verdict(old)] if disturbances(old) else []
    return section + [f"The older run: {doubt}\n" for doubt in (*doubts, *warnings(old))]


def change_line(change: Row) -> list[str]:
    values = [change[name] for name in ("time", "beyond", "ratio", "ratio_beyond")]
    start = [change["layer"], change["pass"], change["kernel"], str(change["threads"])]
    return [*start, *(f"x {value:.2f}" for value in values)]


# The command.


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    document = load(arguments.results)
    lines = timed(document)
    if lines.empty:
        raise BadInputError(f"{arguments.results} has no timed rows")
    compared = [
        line
        for path in arguments.older
        for line in changes_section(document, load(path), path.name)
    ]
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    pictures = plots.draw_all(lines, limits_of(document, lines), folder)
    write(folder / "report.md", report(document, lines, compared, pictures))
    write(folder / "README-table.md", readme_table(document, lines))
    return 0


def parser() -> Parser:
    parser = Parser(
        prog="benchmarks/report.py",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("older", type=Path, nargs="*")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    return parser


def limits_of(document: Document, lines: pd.DataFrame) -> tuple[float, float]:
    """The peak and the bandwidth for the threads of the first row."""
    threads = int(lines["threads"].iloc[0])
    return peak_of(document, "fma_gflops", threads), peak_of(document, "bandwidth_gbs", threads)


def report(
    document: Document, lines: pd.DataFrame, compared: list[str], pictures: list[str]
) -> list[str]:
    return [
        "# Benchmark",
        "",
        *conditions(document),
        *(f"**{sentence}**\n" for sentence in (verdict(document), *warnings(document))),
        *compared,
        *means_section(document, lines),
        *(f"![{Path(name).stem}]({name})\n" for name in pictures),
        *slower_section(lines),
        *class_sections(document),
    ]


def readme_table(document: Document, lines: pd.DataFrame) -> list[str]:
    """The fastest kernel alone, without and with Winograd, with the conditions under it."""
    text = ["Speed of our kernel / that of `F.conv2d`, geometric means by class and pass.", ""]
    fastest = lines["kernel"].iloc[0].partition("+")[0]
    for name, group in groups_of(lines[lines["kernel"].str.partition("+")[0] == fastest]):
        if has(group, MAIN_BASELINE):
            text += [f"**{name}**", "", *means_table(group, MAIN_BASELINE)]
    text += ["![ratios by class](ratios.png)", "", *conditions(document)]
    return text + [f"**{sentence}**\n" for sentence in (verdict(document), *warnings(document))]


def write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines).rstrip() + "\n")
    print(path)


if __name__ == "__main__":
    sys.exit(exit_code_of("benchmarks/report.py", main, sys.argv[1:]))
