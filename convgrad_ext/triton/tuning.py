"""Tiles measured on the card at hand, for those who ask: their choice is kept in a file.

A measurement falls out differently from run to run, and other tiles round differently. Without a
file the tiles are those of tiles.py; with one they are the file's, in every process that reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import triton
from torch import Tensor
from triton.runtime.errors import OutOfResources
from triton.testing import do_bench

from convgrad_ext.triton import calls, tiles
from convgrad_ext.triton.launches import Launch, observed_by
from convgrad_ext.triton.tiles import ShapeClass, Tile

FORMAT = "convgrad_ext tiles"
VARIABLE = "CONVGRAD_TILES"

Clock = Callable[[Callable[[], None]], float]


def tune(run: Callable[[], Any], path: str | os.PathLike[str], clock: Clock = do_bench) -> int:
    """Times at most six tiles for every convolution of `run` and writes the fastest to a file.

    Args:
        run: a training step, say, on a CUDA device. It is called seven times, and each of its
            kernels many times more.
        path: the file, which is written at the end. The environment variable ``CONVGRAD_TILES``
            or `load` lets later processes read it.
        clock: what times a launch; by default ``triton.testing.do_bench``, in milliseconds.

    Returns:
        the number of shape classes in the file. This process has their tiles from now on.

    Example::

        tune(lambda: model(images).sum().backward(), "tiles.json")
    """
    before = dict(tiles.TUNED)
    try:
        best = fastest(measured(run, clock))
    finally:
        use(before)
    save(best, Path(path))
    use(before | best)
    return len(best)


@dataclass
class Trial:
    """A tile for each shape class, and how long its launches take."""

    tried: dict[ShapeClass, Tile]
    clock: Clock
    times: dict[ShapeClass, float] = field(default_factory=dict)

    def observe(self, launch: Launch, tensors: dict[str, Tensor]) -> None:
        """A tile too large for the device has no result, which nobody reads."""
        if launch.shape is None or launch.shape not in self.tried:
            launch.run(tensors)
            return
        try:
            time = self.clock(lambda: launch.run(tensors))
        except OutOfResources:
            time = inf
        self.times[launch.shape] = self.times.get(launch.shape, 0) + time


def measured(run: Callable[[], Any], clock: Clock) -> list[Trial]:
    """A trial for each number of a candidate."""
    with observed_by(Launch.run) as seen:
        run()
    candidates = {launch.shape: candidates_of(launch.shape) for launch in seen if launch.shape}
    trials = []
    for number in range(max(map(len, candidates.values()), default=0)):
        tried = {shape: of[number] for shape, of in candidates.items() if number < len(of)}
        trials.append(Trial(tried, clock))
        use(tiles.TUNED | tried)
        with observed_by(trials[-1].observe):
            run()
    return trials


def fastest(trials: list[Trial]) -> dict[ShapeClass, Tile]:
    """By shape class; a class without a time keeps the tile of the table."""
    found: dict[ShapeClass, tuple[float, Tile]] = {}
    for trial in trials:
        for shape, time in trial.times.items():
            if time < found.get(shape, (inf,))[0]:
                found[shape] = time, trial.tried[shape]
    return {shape: tile for shape, (_, tile) in found.items()}


def candidates_of(shape: ShapeClass) -> list[Tile]:
    """The table's tile and five beside it: smaller ones, and one with more loads on their way."""
    tile = tiles.tile_of(shape)
    beside = [
        replace(tile, M=halved(tile.M)),
        replace(tile, P=halved(tile.P)),
        replace(tile, Q=halved(tile.Q)),
        replace(tile, stages=tile.stages + 1),
        replace(tile, M=halved(tile.M), warps=max(1, tile.warps // 2)),
    ]
    return list(dict.fromkeys([tile, *beside]))


def halved(block: int) -> int:
    """A product takes 16 of each at least; depthwise kernels have one channel of a filter."""
    return block // 2 if block >= 32 else block


def use(chosen: dict[ShapeClass, Tile]) -> None:
    """These from now on, instead of those before."""
    tiles.TUNED.clear()
    tiles.TUNED.update(chosen)
    calls.forget()


# The file.


def save(chosen: dict[ShapeClass, Tile], path: Path) -> None:
    rows = [asdict(shape) | {"tile": asdict(tile)} for shape, tile in chosen.items()]
    rows.sort(key=lambda row: json.dumps(row))
    document = {"format": FORMAT, "triton": triton.__version__, "tiles": rows}
    path.write_text(json.dumps(document, indent=1) + "\n")


def load(path: str | os.PathLike[str]) -> int:
    """Takes the tiles of a file that `tune` has written; returns how many.

    Raises:
        ValueError: ``convgrad_ext: FILE has no tiles: REASON``
    """
    try:
        document = json.loads(Path(path).read_text())
        if document.get("format") != FORMAT:
            raise ValueError(f"its format is {document.get('format')!r}, not {FORMAT!r}")
        chosen = {}
        for row in document["tiles"]:
            tile = Tile(**row.pop("tile"))
            chosen[ShapeClass(**row)] = tile
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        raise ValueError(f"convgrad_ext: {path} has no tiles: {problem}") from None
    use(tiles.TUNED | chosen)
    return len(chosen)


def load_from_environment() -> None:
    if path := os.environ.get(VARIABLE):
        load(path)
