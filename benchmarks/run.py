"""Times every kernel against its alternatives, after checking that both give the same.

    python benchmarks/run.py --quick --output results.json
    python benchmarks/run.py --quick --isa avx2 --peers --output peers.json
    python benchmarks/run.py --quick --kernels conv2d --output itself.json
    python benchmarks/run.py --device cuda --dtype float16 --output cuda.json

The third one times F.conv2d against itself: its ratios are as far from 1 as the instrument is off.
The last one is for a GPU; docs/gpu.md explains it.
Exit code 1: a result was wrong; 2: the request was; 130: interrupted, --resume goes on.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as python -m would

from benchmarks import (
    BadInputError,
    Parser,
    exit_code_of,
    machine,
    names,
    peers,
    positive,
    report,
    whole,
    wholes,
)
from benchmarks.layers import DTYPES, MEMORY_FORMATS, Form, Layer, class_names, load_layers
from benchmarks.measure import Effort, joined, measure_layer
from benchmarks.sides import BASELINE, PASSES, kernel_names, plain
from convgrad_ext import available_kernels

WRONG_RESULT = 1
INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended

Row = dict[str, Any]
Document = dict[str, Any]
Unit = tuple[Row, Callable[[], list[Row]]]  # fields that its rows share, and how to get these rows


def parser() -> Parser:
    parser = Parser("benchmarks/run.py", __doc__)
    add, classes, passes, others = parser.add_argument, class_names(), [*PASSES], [*peers.PEERS]
    add("--classes", type=partial(names, "class", classes), default=classes, help="default: all")
    add("--passes", type=partial(names, "pass", passes), default=passes, help="default: all")
    add("--kernels", help="as in avx2,avx2+winograd; default: the fastest, with --quick all")
    read, about = partial(names, "peer", others), f"{','.join(others)}; without a value: all"
    add("--peers", type=read, nargs="?", const=others, default=[], help=about)
    add("--memory-format", choices=MEMORY_FORMATS, default="nchw")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    about = "of float32 products on a GPU, on both sides; default: tf32, as PyTorch's"
    add("--precision", choices=("tf32", "ieee"), default="tf32", help=about)
    add("--quick", action="store_true", help="a few small layers")
    add_common(parser, seconds="2, with --quick 0.3")
    return parser


def add_common(parser: Parser, seconds: str) -> None:
    """The options that benchmarks/models.py has as well."""
    add, threads = parser.add_argument, machine.thread_counts()
    available = [isa for isa in machine.ISAS if isa in available_kernels()]
    add("--dtype", choices=DTYPES, default="float32")
    add("--threads", type=wholes, default=threads, help="as in 1,2; default: 1 and all")
    add("--isa", choices=available, help="hold both sides to one instruction set")
    add("--seconds", type=positive, help=f"how long to time each cell; default: {seconds}")
    add("--laps", type=whole, default=3, help="in how many parts, minutes apart; default: 3")
    add("--output", type=Path, required=True, help="the result file, for benchmarks/report.py")
    add("--resume", action="store_true", help="go on with the result file")


def settings_from(arguments: Namespace) -> Document:
    """All that two runs must share to be one, as JSON gives it back."""
    known = kernel_names(DTYPES[arguments.dtype])
    kernels = [name for name in known if arguments.quick or plain(name) == known[0]]
    if arguments.kernels:
        kernels = names(f"kernel for {arguments.dtype}", (*known, BASELINE), arguments.kernels)
    for peer in arguments.peers:
        peers.check_installed(peer)
    same = ("dtype", "memory_format", "isa", "threads", "classes", "passes")
    return {
        **{name: vars(arguments)[name] for name in same},
        "kernels": kernels,
        "against": [BASELINE, *arguments.peers],
        "set": "quick" if arguments.quick else "full",
    }


class Results:
    """The result file: valid JSON at any moment, because it is replaced whole."""

    def __init__(
        self, path: Path, settings: Document, resume: bool, measured: Any = machine
    ) -> None:
        """A new file, or with `resume` one that was measured in the same way.

        What is measured, the machine or its card, describes itself and has its limits probed.
        """
        self.path, self.measured = path, measured
        self.document: Document = {
            "format": report.FORMAT,
            "version": report.VERSION,
            "settings": settings,
            "machine": measured.describe(),
            "load": {"other": 0.0, "before": machine.load_average(), "after": 0.0},
            "probes": [],
            "complete": False,
            "rows": [],
        }
        if resume and path.exists():
            self.go_on(report.load(path))
        self.save()

    def go_on(self, old: Document) -> None:
        """What was wrong is measured again."""
        for noun in ("settings", "machine"):
            for name, now in self.document[noun].items():
                if old[noun].get(name) != now:
                    raise BadInputError(
                        f"cannot resume {self.path}: its {noun} differ in {name}, "
                        f"{old[noun].get(name)!r} there and {now!r} now"
                    )
        wrong = {row["layer"] for row in wrong_rows(old["rows"])}
        rows = [row for row in old["rows"] if row["layer"] not in wrong]
        self.document = old | {"complete": False, "rows": rows}

    def rows_of(self, fields: Row) -> list[Row]:
        return [row for row in self.document["rows"] if row.items() >= fields.items()]

    def laps_of(self, fields: Row) -> int:
        return min((row["laps"] for row in self.rows_of(fields)), default=0)

    def put(self, fields: Row, rows: list[Row]) -> None:
        """Adds a unit's rows, or joins them to those of the laps before."""
        before = self.rows_of(fields)
        if before:
            rows = [joined(*both) for both in zip(before, rows, strict=True)]
        self.document["rows"] = [row for row in self.document["rows"] if row not in before] + rows
        self.save()

    def probe(self, when: str, bandwidth: bool = False) -> None:
        """Asks the machine for its limits now."""
        settings = self.document["settings"]
        self.document["probes"] += [
            {
                "when": when,
                "threads": threads,
                "fma_gflops": self.measured.peak_gflops(DTYPES[settings["dtype"]], threads),
                "bandwidth_gbs": self.measured.bandwidth_gbs(threads) if bandwidth else None,
            }
            for threads in settings["threads"]
        ]

    def save(self) -> None:
        """Replaces the file in one step: whoever reads it, or stops us, finds a whole one."""
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(self.document, allow_nan=False) + "\n")
            beside.replace(self.path)
        except OSError as problem:
            raise BadInputError(f"cannot write {self.path}: {problem.strerror}") from None


def wrong_rows(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["ours"] and row["problem"]]


# The run, here and in benchmarks/models.py.


def run(results: Results, units: Sequence[Unit], laps: int) -> int:
    """Measures what is missing; returns the exit code."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        race(results, units, laps, console)
    except KeyboardInterrupt:
        console.print(f"Interrupted; --resume goes on with {results.path}.")
        return INTERRUPTED
    for sentence in (report.verdict(results.document), *report.doubts(results.document)):
        console.print(f"[yellow]{sentence}")
    console.print(f"{len(results.document['rows'])} rows in {results.path}")
    return WRONG_RESULT if wrong_rows(results.document["rows"]) else 0


def race(results: Results, units: Sequence[Unit], laps: int, console: Console) -> None:
    """A lap after the other through all units."""
    load = results.document["load"]
    load["other"] = max(load["other"], machine.other_work())
    results.probe("before", bandwidth=True)
    for lap, (fields, measure) in track([*product(range(laps), units)], "", console=console):
        if results.laps_of(fields) <= lap:
            results.put(fields, [{"laps": 1, **row} for row in measure()])
            results.probe(fields["layer"])
        if lap == laps - 1:
            show(console, results.rows_of(fields))
    results.probe("after", bandwidth=True)
    load["after"] = machine.load_average()
    results.document["complete"] = True
    results.save()


def show(console: Console, rows: list[Row]) -> None:
    """A line for each kernel in each cell."""
    for line in report.lines_of(rows):
        where = f"{line['threads']} x " if line["threads"] else ""
        cell = f"{line['layer']:16}{line['pass']:18}{where}{line['kernel']:16}"
        ratios = [(name[2:], line[name]) for name in line if name.startswith("/ ")]
        compared = ", ".join(f"{ratio:.2f} x {name}" for name, ratio in ratios if ratio > 0)
        ran = f"[red]WRONG: {line['problem']}" if line["problem"] else line["path"]
        console.print(f"{cell}{line['ms']:9.3f} ms   {compared}   {ran}")


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    seconds = arguments.seconds or (0.3 if arguments.quick else 2.0)
    effort = Effort(seconds, arguments.laps)
    on_device = on_card if arguments.device == "cuda" else on_machine
    settings, measured, measure = on_device(arguments, effort)
    units = [
        ({"layer": layer.name, "class": layer.kind}, partial(measure, layer))
        for layer in load_layers(settings["classes"], arguments.quick)
    ]
    results = Results(arguments.output, settings, arguments.resume, measured)
    return run(results, units, arguments.laps)


Measure = Callable[[Layer], list[Row]]


def on_machine(arguments: Namespace, effort: Effort) -> tuple[Document, Any, Measure]:
    """The settings, what is measured, and how a layer is."""
    machine.touch_heap()
    settings = settings_from(arguments)
    form = Form(DTYPES[arguments.dtype], MEMORY_FORMATS[arguments.memory_format])
    return settings, machine, partial(measure_layer, form, settings, effort)


def on_card(arguments: Namespace, effort: Effort) -> tuple[Document, Any, Measure]:
    """Triton, which a computer without a GPU need not have, is imported here."""
    cuda = importlib.import_module("benchmarks.cuda")
    settings = cuda.settings_from(arguments, parser().parse_args(["--output", ""]))
    card = importlib.import_module("benchmarks.card").Card(settings["precision"])
    return settings, card, partial(cuda.measure_layer, card, settings, effort)


def command(argv: list[str]) -> int:
    machine.start_anew(parser().parse_args(argv).isa)
    return main(argv)


if __name__ == "__main__":
    sys.exit(exit_code_of("benchmarks/run.py", command, sys.argv[1:]))
