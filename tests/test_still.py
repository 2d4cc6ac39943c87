"""The picture of python -m convgrad_ext explain: its numbers, its phases and its files."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from convgrad_ext.__main__ import main
from convgrad_ext.explain import AxisOfLayer, command, still

AXES = [
    AxisOfLayer("row", 7, 3, stride=2, padding=1, dilation=1),
    AxisOfLayer("column", 6, 2, stride=3, padding=2, dilation=2),
]
ARGUMENTS = ["explain"]
for option in ("--input 7 6", "--kernel 3 2", "--stride 2 3", "--padding 1 2", "--dilation 1 2"):
    ARGUMENTS += option.split()


def counted(*size: int) -> Tensor:
    return torch.arange(1.0, 1 + torch.Size(size).numel()).double().view(1, 1, *size)


def grids_of(figure: Figure) -> dict[str, Axes]:
    """By the name in the title, which is the one text of two words with a size."""
    return {
        text.get_text().split()[0]: place
        for place in figure.axes
        for text in place.texts
        if "  " in text.get_text() and "\n" not in text.get_text()
    }


def numbers_in(place: Axes) -> list[float]:
    return [float(t.get_text()) for t in place.texts if t.get_text().lstrip("-").isdecimal()]


def test_every_number_is_autograds() -> None:
    params = {"stride": (2, 3), "padding": (1, 2), "dilation": (1, 2)}
    leaves = [
        counted(7, 6).requires_grad_(),
        counted(3, 2).requires_grad_(),
        torch.zeros(1).double(),
    ]
    leaves[2].requires_grad_()
    output = F.conv2d(*leaves, **params)
    grad = counted(*output.shape[2:])
    gradients = torch.autograd.grad(output, leaves, grad)
    names = ("input", "kernel", "output", "grad_output", "grad_input", "grad_weight", "grad_bias")
    expected = (*leaves[:2], output, grad, *gradients)
    places = grids_of(still.draw(AXES))
    assert set(places) == set(names)
    for name, tensor in zip(names, expected, strict=True):
        assert numbers_in(places[name]) == tensor.detach().flatten().tolist()


@pytest.mark.parametrize("name", ["input", "grad_input"])
def test_letters_are_those_of_equal_remainders(name: str) -> None:
    """(i + padding) mod stride, on both axes: colour and letter change together."""
    place = grids_of(still.draw(AXES))[name]
    letters = [t.get_text() for t in place.texts if t.get_gid() == "phase"]
    cells = [p for p in place.patches if not p.get_hatch()]
    colours = [p.get_facecolor() for p in cells]
    remainders = [((y + 1) % 2, (x + 2) % 3) for y in range(7) for x in range(6)]
    kinds = {*zip(letters, colours, strict=True)}
    assert len(kinds) == len({*remainders}) == 6
    assert len({*zip(letters, colours, remainders, strict=True)}) == 6


def test_the_padding_is_hatched() -> None:
    places = grids_of(still.draw(AXES))
    hatched = {n: sum(bool(p.get_hatch()) for p in place.patches) for n, place in places.items()}
    assert hatched.pop("input") == (7 + 2) * (6 + 4) - 7 * 6
    assert not any(hatched.values())


def test_one_phase_has_no_letters() -> None:
    axes = [AxisOfLayer(name, 4, 2, stride=1, padding=0, dilation=1) for name in ("row", "column")]
    figure = still.draw(axes)
    assert not [t for place in figure.axes for t in place.texts if t.get_gid() == "phase"]


def test_files_are_what_their_names_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    png, svg = tmp_path / "layer.png", tmp_path / "layer.svg"
    for path in (png, svg):
        assert main([*ARGUMENTS, "--output", str(path)]) == 0
        assert capsys.readouterr().out == f"wrote {path}\n"
    assert png.read_bytes().startswith(b"\x89PNG\r\n")
    assert ElementTree.fromstring(svg.read_text()).tag.endswith("svg")
    assert sorted(tmp_path.iterdir()) == [png, svg]


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err.removeprefix("convgrad_ext explain: ").strip()


def test_an_unknown_suffix_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "layer.gif"
    error = refused([*ARGUMENTS, "--output", str(path)], capsys)
    assert error == f"--output must end in .html, .png or .svg, but got '{path}'"
    assert not any(tmp_path.iterdir())


def test_a_folder_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nowhere" / "layer.png"
    error = refused([*ARGUMENTS, "--output", str(path)], capsys)
    assert error == f"--output '{path}' cannot be written: No such file or directory"


def test_a_layer_that_no_slide_has_room_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["explain", "--input", "13", "--output", str(tmp_path / "layer.png")]
    assert refused(arguments, capsys) == "--input must be at most 12 in a picture, but got 13"
    assert not any(tmp_path.iterdir())


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no renderer")

    monkeypatch.setattr(Figure, "savefig", fail)
    (tmp_path / "layer.png").write_text("before")
    with pytest.raises(RuntimeError, match="no renderer"):
        command.save(AXES, tmp_path / "layer.png")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_matplotlib_is_asked_for_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    error = refused([*ARGUMENTS, "--output", str(tmp_path / "layer.png")], capsys)
    assert error == "--output needs the package matplotlib: pip install matplotlib"


@pytest.mark.parametrize(
    ("axes", "notes"),
    [
        ([(6, 3, 2, 0, 1), (5, 3, 1, 0, 1)], ["left over: row 5"]),
        ([(7, 2, 2, 0, 2), (5, 2, 2, 0, 3)], ["no tap meets: row 1, 3, 5"]),
        ([(5, 2, 2, 0, 3), (3, 1, 1, 0, 1)], ["no output reads: row 1, 2", "left over: row 4"]),
    ],
    ids=["stride_leaves_a_row", "phase_without_taps", "between_two_taps"],
)
def test_pixels_that_meet_nothing_are_named(
    axes: list[tuple[int, int, int, int, int]], notes: list[str]
) -> None:
    layer = [AxisOfLayer(name, *a) for name, a in zip(("row", "column"), axes, strict=True)]
    (legend,) = (
        text.get_text().splitlines()
        for place in still.draw(layer).axes
        for text in place.texts
        if "meet where" in text.get_text()
    )
    assert [line for line in legend if ": row " in line] == notes
    assert legend[-1] == "grad_input is 0 there"
