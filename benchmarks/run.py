"""Times every kernel against its alternatives, after checking that both give the same.

    python benchmarks/run.py --quick --output results.json
    python benchmarks/run.py --quick --isa avx2 --peers --output peers.json
    python benchmarks/run.py --quick --kernels conv2d --output itself.json

The last one times F.conv2d against itself: its ratios are as far from 1 as the instrument is off.
Exit code 1: a result was wrong; 2: the request was; 130: interrupted, --resume goes on.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as python -m would

from benchmarks import (
    BadInputError,
    Parser,
    exit_code_of,
    figures,
    machine,
    names,
    one_of,
    peers,
    report,
)
from benchmarks.layers import DTYPES, MEMORY_FORMATS, Form, class_names, load_layers, make_operands
from benchmarks.measure import Cell, Effort, expected_of, joined, measure_cell
from benchmarks.sides import AGAINST_ITSELF, BASELINES, PASSES, kernel_names, plain

WRONG_RESULT = 1
INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended

Row = dict[str, Any]
Document = dict[str, Any]
Key = tuple[Any, ...]


def parser() -> Parser:
    parser = Parser(
        prog="benchmarks/run.py", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--classes", type=names, help="the files in benchmarks/shapes; default: all")
    add("--passes", type=names, help=f"{', '.join(PASSES)}; default: all")
    add(
        "--kernels",
        type=names,
        help="ours, as in avx2,avx2+winograd, or conv2d for F.conv2d against itself; "
        "default: the fastest with and without Winograd, with --quick all",
    )
    add("--against", type=names, help="conv2d, aten; default: both, with --quick conv2d")
    add(
        "--peers", type=names, nargs="?", const=[*peers.PEERS], default=[],
        help="libraries beside those of --against: onnxruntime, jax; without a value: both",
    )  # fmt: skip
    add("--quick", action="store_true", help="a few small layers")
    add_common(add, seconds="2, --quick 0.3")
    return parser


def add_common(add: Callable[..., Any], seconds: str) -> None:
    """The options that benchmarks/models.py has as well."""
    add("--dtype", default="float32", help=f"{', '.join(DTYPES)}; default: float32")
    add("--memory-format", help=f"{', '.join(MEMORY_FORMATS)}")
    add("--threads", type=names, help="numbers of threads, as in 1,2; default: 1 and all")
    add("--isa", help=f"hold both sides to one instruction set: {', '.join(machine.ISAS)}")
    add("--seconds", type=float, help=f"how long to time each cell; default: {seconds}")
    add("--laps", type=int, default=3, help="in how many parts, minutes apart; default: 3")
    add("--output", type=Path, required=True, help="the result file, for benchmarks/report.py")
    add("--resume", action="store_true", help="go on with the result file")


# The request, checked.


def settings_from(arguments: Namespace) -> Document:
    """All that two runs must share to be one, as JSON gives it back."""
    dtype, memory_format = form_names(arguments, arguments.memory_format or "nchw")
    against = one_of("baseline", arguments.against or BASELINES, BASELINES)
    if arguments.quick and not arguments.against:
        against = against[:1]
    others = one_of("peer", arguments.peers, peers.PEERS)
    for peer in others:
        peers.check_installed(peer)
    return {
        "dtype": dtype,
        "memory_format": memory_format,
        "isa": arguments.isa,
        "threads": thread_counts(arguments),
        "classes": [*one_of("class", arguments.classes or class_names(), class_names())],
        "passes": [*one_of("pass", arguments.passes or PASSES, PASSES)],
        "kernels": [*kernels(arguments)],
        "against": [*against, *others],
        "set": "quick" if arguments.quick else "full",
    }


def form_names(arguments: Namespace, memory_format: str) -> tuple[str, str]:
    (dtype,) = one_of("dtype", [arguments.dtype], DTYPES)
    (memory_format,) = one_of("memory format", [memory_format], MEMORY_FORMATS)
    return dtype, memory_format


def kernels(arguments: Namespace) -> tuple[str, ...]:
    known = kernel_names(DTYPES[arguments.dtype])
    if not arguments.kernels:
        fastest = tuple(name for name in known if plain(name) == known[0])
        return known if arguments.quick else fastest
    return one_of(f"kernel for {arguments.dtype}", arguments.kernels, (*known, AGAINST_ITSELF))


def thread_counts(arguments: Namespace) -> list[int]:
    return positive("threads", arguments.threads or map(str, machine.thread_counts()))


def positive(option: str, numbers: Iterable[str]) -> list[int]:
    numbers = [*numbers]
    for name in numbers:
        if not name.isdecimal() or int(name) == 0:
            raise BadInputError(f"{option} must be numbers from 1, as in 1,2, but got '{name}'")
    return [*map(int, numbers)]


def effort_of(arguments: Namespace, usual: float) -> Effort:
    seconds = usual if arguments.seconds is None else arguments.seconds
    if not 0 < seconds < inf:
        raise BadInputError(f"seconds must be a positive number, but got {seconds:g}")
    if arguments.laps < 1:
        raise BadInputError(f"laps must be a number from 1, but got {arguments.laps}")
    return Effort(cell_seconds=seconds, laps=arguments.laps)


# The result file: valid JSON at any moment, because it is replaced whole after every cell.


@dataclass
class Results:
    path: Path
    document: Document

    @staticmethod
    def open(path: Path, settings: Document, resume: bool) -> Results:
        """A new file, or with `resume` one that was measured in the same way."""
        here = machine.describe()
        if resume and path.exists():
            document = report.load(path)
            check_same("settings", document["settings"], settings, path)
            check_same("machine", document["machine"], here, path)
            results = Results(path, document | {"complete": False})
            results.drop_wrong_cells()
            return results
        results = Results(
            path,
            {
                "format": report.FORMAT,
                "version": report.VERSION,
                "settings": settings,
                "machine": here,
                "load": {"other": 0.0, "before": machine.load_average(), "after": 0.0},
                "probes": [],
                "complete": False,
                "rows": [],
            },
        )
        results.save()
        return results

    @property
    def rows(self) -> list[Row]:
        rows: list[Row] = self.document["rows"]
        return rows

    def rows_of(self, key: Key) -> list[Row]:
        """One for each side; none if that cell was not measured yet."""
        return [row for row in self.rows if key_of(row) == key]

    def laps_of(self, key: Key) -> int:
        return min((row["laps"] for row in self.rows_of(key)), default=0)

    def put(self, key: Key, rows: list[Row]) -> None:
        """Adds a cell's rows, or joins them to those of the laps before."""
        before = self.rows_of(key)
        self.replace(key, [*map(joined, before, rows)] if before else rows)

    def replace(self, key: Key, rows: list[Row]) -> None:
        self.document["rows"] = [row for row in self.rows if key_of(row) != key] + rows
        self.save()

    def drop_wrong_cells(self) -> None:
        wrong = {key_of(row) for row in wrong_rows(self.rows)}
        self.document["rows"] = [row for row in self.rows if key_of(row) not in wrong]

    def save(self) -> None:
        """Replaces the file in one step: whoever reads it, or stops us, finds a whole one."""
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(self.document, allow_nan=False) + "\n")
            beside.replace(self.path)
        except OSError as problem:
            raise BadInputError(f"cannot write {self.path}: {problem.strerror}") from None


def key_of(row: Row) -> Key:
    return tuple(row[name] for name in figures.CELL)


def wrong_rows(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["ours"] and row["problem"]]


def check_same(noun: str, old: Document, new: Document, path: Path) -> None:
    different = [name for name in old | new if old.get(name) != new.get(name)]
    if different:
        name = different[0]
        raise BadInputError(
            f"cannot resume {path}: its {noun} differ in {name}, "
            f"{old.get(name)!r} there and {new.get(name)!r} now"
        )


# The run.


class Race:
    """For every layer and pass: verify, then time. Each cell of each lap is told to `tell`."""

    def __init__(self, results: Results, effort: Effort, tell: Callable[[Cell], None]) -> None:
        self.results = results
        self.settings = results.document["settings"]
        self.effort = effort
        self.tell = tell
        dtype, memory_format = self.settings["dtype"], self.settings["memory_format"]
        self.form = Form(DTYPES[dtype], MEMORY_FORMATS[memory_format])

    def layers(self) -> list[list[Cell]]:
        """The cells, those of one layer together."""
        settings = self.settings
        return [
            [Cell(layer, name, n) for name in settings["passes"] for n in settings["threads"]]
            for layer in load_layers(settings["classes"], settings["set"] == "quick")
        ]

    def run(self) -> None:
        """Measures what is missing, a lap after the other."""
        begin(self.results, self.form.dtype)
        for lap in range(self.effort.laps):
            for cells in self.layers():
                left = [cell for cell in cells if self.results.laps_of(cell.key) <= lap]
                if left:
                    self.measure_layer(left)
                for cell in cells:
                    self.tell(cell)
        finish(self.results, self.form.dtype)

    def measure_layer(self, cells: list[Cell]) -> None:
        operands = make_operands(cells[0].layer, self.form)
        before = peaks_of(self.results)
        pass_name, expected = "", None
        for cell in cells:
            torch.set_num_threads(cell.threads)
            if expected is None or cell.pass_name != pass_name:
                pass_name, expected = cell.pass_name, expected_of(cell.pass_name, operands)
            kernels, baselines = (
                [cell.job(name, self.form) for name in self.settings[role]]
                for role in ("kernels", "against")
            )
            rows = measure_cell(kernels, baselines, operands, expected, self.effort)
            self.results.put(cell.key, rows)
        probe(self.results, cells[0].layer.name, self.form.dtype)
        note_drift(self.results, [cell.key for cell in cells], before)


def begin(results: Results, dtype: torch.dtype) -> None:
    load = results.document["load"]
    load["other"] = max(load["other"], machine.other_work())
    probe(results, "before", dtype, bandwidth=True)


def finish(results: Results, dtype: torch.dtype) -> None:
    probe(results, "after", dtype, bandwidth=True)
    results.document["load"]["after"] = machine.load_average()
    results.document["complete"] = True
    results.save()


def probe(results: Results, when: str, dtype: torch.dtype, bandwidth: bool = False) -> None:
    """Asks the machine for its limits now."""
    results.document["probes"] += [
        {
            "when": when,
            "threads": threads,
            "fma_gflops": machine.peak_gflops(dtype, threads),
            "bandwidth_gbs": machine.bandwidth_gbs(threads) if bandwidth else None,
        }
        for threads in results.document["settings"]["threads"]
    ]


def peaks_of(results: Results) -> dict[int, float]:
    """By number of threads, as of the last probe."""
    return {each["threads"]: each["fma_gflops"] for each in results.document["probes"]}


def note_drift(results: Results, keys: list[Key], before: dict[int, float]) -> None:
    after = peaks_of(results)
    for key in keys:
        peaks = before[key[-1]], after[key[-1]]
        drift = 1 - min(peaks) / max(peaks)
        rows = results.rows_of(key)
        results.replace(key, [row | {"drift": max(drift, row["drift"])} for row in rows])


# What the user sees.


def measure(arguments: Namespace) -> int:
    """The whole run; returns the exit code."""
    effort = effort_of(arguments, 0.3 if arguments.quick else 2.0)
    results = Results.open(arguments.output, settings_from(arguments), arguments.resume)
    console = Console(highlight=False)
    text = TextColumn("{task.description}")
    columns = BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), text
    with Progress(*columns, console=console) as progress:

        def tell(cell: Cell) -> None:
            progress.update(task, advance=weight_of(cell), description=" ".join(cell.key[:3]))
            if results.laps_of(cell.key) == effort.laps:
                show(console, results.rows_of(cell.key))

        race = Race(results, effort, tell)
        weights = [weight_of(cell) for cells in race.layers() for cell in cells]
        task = progress.add_task("", total=sum(weights) * effort.laps)
        try:
            race.run()
        except KeyboardInterrupt:
            progress.stop()
            return interrupted(results, console)
    return conclude(results, console)


def weight_of(cell: Cell) -> float:
    """Larger layers weigh more in the time left."""
    return 1.0 + cell.gflop


def show(console: Console, rows: list[Row]) -> None:
    """A line for each kernel in a cell."""
    for line in figures.lines_of(rows):
        start = f"{line['layer']:16}{line['pass']:16}{line['threads']} x {line['kernel']:16}"
        if line["problem"]:
            console.print(f"{start}[red]WRONG: {line['problem']}[/red]", soft_wrap=True)
            continue
        ratios = {name[2:]: ratio for name, ratio in line.items() if name.startswith("/ ")}
        compared = ", ".join(f"{ratio:.2f} x {name}" for name, ratio in ratios.items())
        console.print(f"{start}{line['ms']:9.3f} ms   {compared}   {line['path']}", soft_wrap=True)


def interrupted(results: Results, console: Console) -> int:
    console.print(f"Interrupted; --resume goes on with {results.path}.", soft_wrap=True)
    return INTERRUPTED


def conclude(results: Results, console: Console) -> int:
    wrong = wrong_rows(results.rows)
    for key in dict.fromkeys(map(key_of, wrong)):
        show(console, results.rows_of(key))
    for sentence in (report.verdict(results.document), *report.warnings(results.document)):
        console.print(f"[yellow]{sentence}", soft_wrap=True)
    console.print(f"{len(results.rows)} rows in {results.path}", soft_wrap=True)
    return WRONG_RESULT if wrong else 0


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    machine.touch_heap()
    return measure(arguments)


def command(argv: list[str]) -> int:
    machine.start_anew(parser().parse_args(argv).isa)
    return main(argv)


if __name__ == "__main__":
    sys.exit(exit_code_of("benchmarks/run.py", command, sys.argv[1:]))
