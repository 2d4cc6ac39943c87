"""Choosing tiles by measurement, with a clock that the tests read: the interpreter has no speed."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from triton.runtime.errors import OutOfResources

import convgrad_ext
from convgrad_ext.triton import launches, tiles, tuning
from convgrad_ext.triton.tiles import ShapeClass, Tile

IMAGE = torch.randn(1, 20, 5, 6)
WEIGHT = torch.randn(24, 20, 3, 3)


def run() -> torch.Tensor:
    return convgrad_ext.conv2d(IMAGE, WEIGHT)


def tiles_that_run() -> list[tuple[ShapeClass, dict[str, int]]]:
    with launches.observed_by(launches.Launch.run) as seen:
        run()
    return [(launch.shape, launch.arguments) for launch in seen if launch.shape]


@pytest.fixture(autouse=True)
def untuned() -> Iterator[None]:
    tuning.use({})
    yield
    tuning.use({})


class Clock:
    """The candidate of this number is the fastest; `too_large` are refused."""

    def __init__(self, fastest: int, too_large: tuple[int, ...] = ()) -> None:
        self.fastest, self.too_large, self.calls = fastest, too_large, 0

    def __call__(self, call: Callable[[], None]) -> float:
        number, self.calls = self.calls, self.calls + 1
        if number in self.too_large:
            raise OutOfResources(1 << 20, 1 << 16, "shared memory")
        call()
        return 1.0 if number == self.fastest else 2.0


def test_the_fastest_tile_is_used_and_kept(tmp_path: Path) -> None:
    file, clock = tmp_path / "tiles.json", Clock(fastest=2)
    ((shape, _),) = tiles_that_run()
    candidates = tuning.candidates_of(shape)
    assert tuning.tune(run, file, clock) == 1
    assert clock.calls == len(candidates) <= 6
    assert {shape: candidates[2]} == tiles.TUNED.tiles
    ((_, arguments),) = tiles_that_run()
    assert (
        arguments["BLOCK_P"] == candidates[2].P == tiles.TABLES["correlate"][80]["float32"].P // 2
    )
    tuning.use({})
    assert tuning.load(file) == 1
    assert {shape: candidates[2]} == tiles.TUNED.tiles


def test_a_tile_that_is_too_large_is_not_chosen(tmp_path: Path) -> None:
    ((shape, _),) = tiles_that_run()
    third = tuning.candidates_of(shape)[2]
    tuning.tune(run, tmp_path / "tiles.json", Clock(fastest=1, too_large=(0, 1)))
    assert {shape: third} == tiles.TUNED.tiles


def test_an_error_leaves_the_tiles_as_they_were(tmp_path: Path) -> None:
    def stops(call: Callable[[], None]) -> float:
        raise RuntimeError("the clock stops")

    with pytest.raises(RuntimeError, match="the clock stops"):
        tuning.tune(run, tmp_path / "tiles.json", stops)
    assert tiles.TUNED.tiles == {}
    assert not (tmp_path / "tiles.json").exists()


@pytest.mark.usefixtures("poisoned")
def test_a_model_makes_one_step(tmp_path: Path) -> None:
    """Tiles that are refused leave no trace in results, gradients and running means."""
    model = nn.Sequential(convgrad_ext.Conv2d(20, 24, 3), nn.BatchNorm2d(24))
    expected = copy.deepcopy(model)
    expected(IMAGE).square().sum().backward()
    clock = Clock(fastest=3, too_large=(0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11))
    tuning.tune(lambda: model(IMAGE).square().sum().backward(), tmp_path / "tiles.json", clock)
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    for ours, theirs in zip(model.buffers(), expected.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_process_reads_the_file_that_its_environment_names(tmp_path: Path) -> None:
    file = tmp_path / "tiles.json"
    tuning.tune(run, file, Clock(fastest=1))
    code = "from convgrad_ext.triton import passes, tiles; print(len(tiles.TUNED.tiles))"
    environment = {**os.environ, "CONVGRAD_TILES": str(file)}
    command = [sys.executable, "-c", code]
    assert (
        subprocess.run(command, env=environment, capture_output=True, check=True).stdout == b"1\n"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        ("", "Expecting value"),
        ("[]", "'list' object has no attribute 'get'"),
        (json.dumps({"format": "other"}), "its format is 'other', not 'convgrad_ext tiles'"),
        (json.dumps({"format": tuning.FORMAT, "tiles": [{}]}), "'tile'"),
    ],
)
def test_a_file_without_tiles_is_refused(content: str | None, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "tiles.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=r"tiles\.json has no tiles: .*" + problem):
        tuning.load(file)
    assert tiles.TUNED.tiles == {}


def test_extents_to_powers_of_two_share_a_tile() -> None:
    one, other = (ShapeClass.of("correlate", 80, "half", M, 65, 1000) for M in (33, 64))
    assert one == other == ShapeClass("correlate", 80, "half", 64, 128, 1024)
    assert one != ShapeClass.of("correlate", 80, "half", 65, 65, 1000)


@pytest.mark.parametrize(
    ("architecture", "channels"), [(75, 64), (80, 64), (89, 64), (90, 128), (100, 64), (120, 64)]
)
def test_an_architecture_has_the_tiles_of_the_latest_before_it(
    architecture: int, channels: int
) -> None:
    shape = ShapeClass.of("correlate", architecture, "half", 128, 128, 4096)
    assert tiles.tile_of(shape) == Tile(channels, 64, 32, 8, 3)
