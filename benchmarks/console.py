"""A run as its user sees it: progress with the time left, a line a row, and what to do next."""

from __future__ import annotations

from argparse import Namespace
from math import inf

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from benchmarks.clock import Effort
from benchmarks.conditions import warnings
from benchmarks.devices import Device
from benchmarks.errors import INTERRUPTED, BadInputError
from benchmarks.race import Cell, Race
from benchmarks.results import Results, Row
from benchmarks.settings import settings_from

WRONG_RESULT = 1


def measure(arguments: Namespace, device: Device) -> int:
    """The whole run; returns the exit code."""
    settings, effort = settings_from(arguments, device), effort_of(arguments)
    open_results = Results.resume if arguments.resume else Results.start
    results = open_results(arguments.output, settings.as_dict(), device.describe())
    console = Console(highlight=False)
    columns = (
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        tell = Teller(progress)
        race = Race(settings, device, results, effort, tell)
        tell.begin(race.cells() * effort.laps)
        try:
            race.run()
        except KeyboardInterrupt:
            progress.stop()
            console.print(
                f"Interrupted; {results.path} has {len(results.rows)} rows, --resume goes on."
            )
            return INTERRUPTED
    return conclude(results, console)


def effort_of(arguments: Namespace) -> Effort:
    usual = 0.3 if arguments.quick else 2.0
    seconds = usual if arguments.seconds is None else arguments.seconds
    if not 0 < seconds < inf:
        raise BadInputError(f"seconds must be a positive number, but got {seconds:g}")
    if arguments.laps < 1:
        raise BadInputError(f"laps must be a number from 1, but got {arguments.laps}")
    return Effort(cell_seconds=seconds, laps=arguments.laps)


class Teller:
    """Tells of each cell when it is done. Larger layers weigh more in the time left."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def begin(self, cells: list[Cell]) -> None:
        self.task = self.progress.add_task("", total=sum(map(weight_of, cells)))

    def __call__(self, cell: Cell, rows: list[Row]) -> None:
        what = f"{cell.layer.kind} {cell.layer.name} {cell.pass_name}"
        self.progress.update(self.task, advance=weight_of(cell), description=what)
        for row in rows:
            self.progress.console.print(sentence_about(row), soft_wrap=True, highlight=False)


def weight_of(cell: Cell) -> float:
    return 1.0 + cell.gflop


def sentence_about(row: Row) -> str:
    start = f"{row['layer']:16}{row['pass']:16}{row['threads']} x {row['kernel']:12}"
    if row["problem"]:
        return f"{start}[red]WRONG: {row['problem']}[/red]"
    ours = row["ours"]
    ratios = ", ".join(f"{ratio:.2f} x {name}" for name, ratio in row["ratios"].items())
    return f"{start}{ours['median_ms']:9.3f} ms {ours['gflops']:7.1f} GFLOP/s   {ratios}"


def conclude(results: Results, console: Console) -> int:
    wrong = [row for row in results.rows if row["problem"]]
    for row in wrong:
        console.print(sentence_about(row), soft_wrap=True)
    for sentence in warnings(results.document):
        console.print(f"[yellow]{sentence}", soft_wrap=True)
    console.print(f"{len(results.rows)} rows in {results.path}", soft_wrap=True)
    return WRONG_RESULT if wrong else 0
