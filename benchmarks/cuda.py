"""How a layer is measured on a GPU: ours in Triton, and cuDNN as PyTorch calls it.

Each side has the memory format in which it is faster, and both the same precision. Calls and
replays of a graph are passes of their own: a call has the work of the host in it.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from typing import TYPE_CHECKING, Any

import torch
from triton.errors import TritonError

from benchmarks import BadInputError, names
from benchmarks.layers import DTYPES, MEMORY_FORMATS, Form, Layer, Operands, make_operands
from benchmarks.measure import Contestant, Effort, Timing, enter, time_in_turns
from benchmarks.sides import ALL, BASELINE, OURS, TORCH, Job, Library, Results, Side

if TYPE_CHECKING:
    from benchmarks.card import Card

Row = dict[str, Any]

OURS_NAME, DETERMINISTIC = "triton", "deterministic"
BATCH = 16  # times that of the layer: a GPU is larger
PILOT_CALLS = 5  # of each memory format, to see which one is faster
TF32_EPS, FLOAT32_EPS = 2.0**-10, torch.finfo(torch.float32).eps
REPLAYED = ", replayed"
ON_A_GPU = 0  # threads
OF_THE_CPU = ("threads", "isa", "peers", "kernels", "memory_format")


def settings_from(arguments: Namespace, defaults: Namespace) -> Row:
    """All that two runs must share to be one."""
    for name in OF_THE_CPU:
        if getattr(arguments, name) != getattr(defaults, name):
            option = name.replace("_", "-")
            raise BadInputError(f"--{option} is for the CPU and cannot go with --device cuda")
    if arguments.passes != defaults.passes:
        names("pass for --device cuda", ALL, ",".join(arguments.passes))
    precision = arguments.precision if arguments.dtype == "float32" else "ieee"
    return {
        "device": "cuda",
        "dtype": arguments.dtype,
        "precision": precision,
        "memory_format": "the faster memory format of each side",
        "isa": None,
        "threads": [ON_A_GPU],
        "classes": arguments.classes,
        "passes": [name for name in arguments.passes if name in ALL],
        "kernels": [OURS_NAME],
        "against": [BASELINE, DETERMINISTIC],
        "set": "quick" if arguments.quick else "full",
    }


@contextmanager
def configured(precision: str, deterministic: bool) -> Iterator[None]:
    """cuDNN with the fastest algorithm that it may take, and the same precision on both sides.

    The settings are the process's, and written back as they read: what was inherited is then set.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    cudnn.benchmark, cudnn.deterministic = True, deterministic
    cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision = before  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class CardJob(Job):
    """One side of one row on a GPU; `name` is ours, cuDNN's or cuDNN's without atomics."""

    card: Card
    precision: str
    replays: bool

    @property
    def label(self) -> str:
        return self.pass_name + (REPLAYED if self.replays else "")

    def library(self) -> Library:
        return OURS if self.name == OURS_NAME else TORCH

    def scope(self) -> Any:
        return configured(self.precision, self.name == DETERMINISTIC)

    def side(self, operands: Operands | None = None) -> Side:
        x = operands or on_card(self.layer, self.form, self.card)
        side = super().side(x)
        side = replace(side, run=partial(as_runtime_errors, side.run))
        if not self.replays:
            return side
        with side.scope():
            return Side(self.card.captured(side.run), side.scope)

    def path(self, operands: Operands) -> str:
        """The code that runs, and the memory format that it is faster in."""
        formats = {of: name for name, of in MEMORY_FORMATS.items()}
        return f"{super().path(operands)}, {formats[self.form.memory_format]}"

    def growth(self, reduction: int) -> float:
        """TF32 rounds each factor once, whatever the length of the sum."""
        return TF32_EPS / FLOAT32_EPS / sqrt(reduction) if self.precision == "tf32" else 1.0

    def seconds(self, side: Side) -> float:
        clock = self.card.replay_seconds if self.replays else self.card.eager_seconds
        return clock(side.run)

    def extra_bytes(self) -> int:
        return self.card.extra_bytes(replace(self, replays=False).side().results)


def as_runtime_errors(run: Callable[[], Any]) -> Any:
    """A tile that the card has no room for is this side's problem, as any other reason is."""
    try:
        return run()
    except TritonError as problem:
        raise RuntimeError(f"{type(problem).__name__}: {problem}") from problem


def on_card(layer: Layer, form: Form, card: Card) -> Operands:
    x = make_operands(layer, form)
    return Operands(layer, *(tensor.to(card.device) for tensor in x[1:]))


@dataclass
class CardTiming(Timing):
    """Blocks of one call: the card's clock is fine enough."""

    seconds: Callable[[Side], float] = lambda side: 0.0

    def plan(self, block_seconds: float) -> float:
        with self.side.scope():
            return self.seconds(self.side)

    def block(self) -> None:
        with self.side.scope():
            self.blocks.append(self.seconds(self.side))


def measure_layer(card: Card, settings: Row, effort: Effort, layer: Layer) -> list[Row]:
    layer = replace(layer, N=BATCH * layer.N)
    form = Form(DTYPES[settings["dtype"]], torch.contiguous_format)
    double = Form(torch.float64, torch.contiguous_format)
    rows = []
    for pass_name in settings["passes"]:
        job = CardJob(
            layer, pass_name, BASELINE, double, ON_A_GPU, card=card, precision="ieee", replays=False
        )
        exact = job.side(on_card(layer, form, card).double()).results()
        for replays in (False, True):
            jobs = [
                replace(
                    job, name=name, form=form, ours=name == OURS_NAME, replays=replays,
                    precision=settings["precision"],
                )
                for name in (*settings["kernels"], *settings["against"])
            ]  # fmt: skip
            rows += measure_cell(jobs, exact, effort)
    return rows


def measure_cell(jobs: Sequence[CardJob], exact: Results, effort: Effort) -> list[Row]:
    sides = [in_better_format(job, exact) for job in jobs]
    if any(each.timing for each in sides if each.job.ours):
        time_in_turns([each.timing for each in sides if each.timing], effort)
    return [each.row() for each in sides]


def in_better_format(job: CardJob, exact: Results) -> Contestant:
    """The side after its first calls, in the faster memory format, or the one that it takes."""
    found: list[tuple[float, Contestant]] = []
    for memory_format in MEMORY_FORMATS.values():
        formatted = replace(job, form=replace(job.form, memory_format=memory_format))
        operands = on_card(job.layer, formatted.form, job.card)
        entered = enter(formatted, operands, exact)
        timing = entered.timing
        if timing is None and job.ours:
            return entered
        if timing is None:
            refused = entered
            continue
        entered.timing = CardTiming(timing.side, seconds=formatted.seconds)
        entered.memory = CardJob.extra_bytes
        with timing.side.scope():
            found.append((min(formatted.seconds(timing.side) for _ in range(PILOT_CALLS)), entered))
    return min(found, key=lambda pair: pair[0])[1] if found else refused
