"""Tiles measured on a card, on request; the choice is kept in a file.

A measurement falls out differently from run to run, and other tiles round differently. Without a
file the tiles are those of tiles.py; with one they are the file's, in every process that reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.errors import TritonError
from triton.testing import do_bench

from convgrad_ext.triton import tiles
from convgrad_ext.triton.launches import Launch, observed_by, on_device_of
from convgrad_ext.triton.tiles import ShapeClass, Tile, Tuned

RESULTS = ("destination_data", "sums")  # what the kernels with tiles write

FORMAT = "convgrad_ext tiles"
VARIABLE = "CONVGRAD_TILES"

Clock = Callable[[Callable[[], None]], float]
Tensors = dict[str, Tensor]


def tune(run: Callable[[], Any], path: str | os.PathLike[str], clock: Clock = do_bench) -> int:
    """Times at most six tiles for every convolution of `run` and writes the fastest to a file.

    Args:
        run: a training step, say, on a CUDA device. It is called once; its kernels are then called
            many times more, with results of their own.
        path: the file, which is written at the end. The environment variable ``CONVGRAD_TILES``
            or `load` lets later processes read it.
        clock: what times a launch; by default ``triton.testing.do_bench``, in milliseconds.

    Returns:
        the number of shape classes in the file. This process has their tiles from now on.

    Example::

        tune(lambda: model(images).sum().backward(), "tiles.json")
    """
    before = tiles.TUNED.tiles
    launches: dict[ShapeClass, list[tuple[Launch, Tensors]]] = {}

    def record(launch: Launch, tensors: Tensors) -> None:
        if launch.shape is not None:
            launches.setdefault(launch.shape, []).append((launch, tensors))
        launch.run(tensors)

    with observed_by(record):
        run()
    try:
        best = {shape: fastest(shape, of, clock) for shape, of in launches.items()}
    finally:
        use(before)
    save(best, Path(path))
    use({**before, **best})
    return len(best)


def fastest(shape: ShapeClass, launches: list[tuple[Launch, Tensors]], clock: Clock) -> Tile:
    """The candidate whose launches take the least time together; the first one if none can run."""
    others = tiles.TUNED.tiles
    times = {}
    for tile in candidates_of(shape):
        use({**others, shape: tile})
        times[tile] = sum(time_of(launch, tensors, clock) for launch, tensors in launches)
    use(others)
    return min(times, key=times.__getitem__)


def time_of(launch: Launch, tensors: Tensors, clock: Clock) -> float:
    """With the tile of now, on the device of the tensors; infinite if the device refuses it."""
    results = {n: torch.empty_like(t) for n, t in tensors.items() if n in RESULTS}
    again = launch if launch.remade is None else launch.remade()
    with on_device_of(tensors):
        try:
            return clock(lambda: again.run(tensors | results))
        except TritonError:
            return inf


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


def use(chosen: Mapping[ShapeClass, Tile]) -> None:
    """These from now on, instead of those before. Graphs keep the tiles of their recording."""
    tiles.TUNED = Tuned(dict(chosen), tiles.TUNED.version + 1)


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
    use({**tiles.TUNED.tiles, **chosen})
    return len(chosen)


def load_from_environment() -> None:
    if path := os.environ.get(VARIABLE):
        load(path)
