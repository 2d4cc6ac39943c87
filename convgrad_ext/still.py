"""A picture of one layer and its gradients: ``python -m convgrad_ext explain --output layer.svg``.

Seven grids with whole numbers: the input, the kernel and the gradient of the output count 1, 2, 3
and so on; the others follow from them, by the passes of this package. Needs matplotlib.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convgrad_ext.functional import conv2d, conv2d_input, conv2d_weight

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from convgrad_ext.explain import AxisOfLayer

SUFFIXES = (".png", ".svg")
# Of one axis: more would be too small to read on a slide.
MOST = {"input": 12, "kernel": 7, "stride": 4, "padding": 5, "dilation": 4}

# Light enough for black numbers, and told apart by most who see few colours (Okabe and Ito).
COLOURS = ("#f5d58a", "#a9d8f5", "#8fd6bd", "#f3b79a", "#e3bcd4", "#cfd8a5", "#b9bfe8", "#dddddd")
SLIDE = (13.33, 7.5)  # inches: 16 to 9
PLACES = (
    *("input", "kernel", "output", "legend"),
    *("grad_output", "grad_input", "grad_weight", "grad_bias"),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def check(axes: Sequence[AxisOfLayer], path: Path) -> None:
    """Raises a ValueError if no picture of this layer can be made, or not at this place."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"--output must end in {' or '.join(SUFFIXES)}, but got '{path}'")
    for axis in axes:
        for name, most in MOST.items():
            if getattr(axis, name) > most:
                raise ValueError(
                    f"--{name} must be at most {most} in a picture, but got {getattr(axis, name)}"
                )


def save(axes: Sequence[AxisOfLayer], path: Path) -> None:
    """Writes the picture, whole or not at all.

    Raises:
        ValueError: "--output must end in .png or .svg, but got 'layer.gif'".
    """
    check(axes, path)
    figure = draw(axes)
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=path.suffix, delete=False) as file:
            temporary = Path(file.name)
        try:
            figure.savefig(temporary, dpi=144)
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ValueError(f"--output '{path}' cannot be written: {error.strerror}") from None


def numbers_of(axes: Sequence[AxisOfLayer]) -> dict[str, Tensor]:
    """The seven grids, as matrices."""

    def counted(height: int, width: int) -> Tensor:
        numbers = torch.arange(1, 1 + height * width, dtype=torch.float64)
        return numbers.view(1, 1, height, width)

    params: dict[str, Any] = {
        name: tuple(getattr(axis, name) for axis in axes)
        for name in ("stride", "padding", "dilation")
    }
    input, weight = (counted(*(getattr(a, n) for a in axes)) for n in ("input", "kernel"))
    output = conv2d(input, weight, **params)
    grad = counted(*output.shape[2:])
    grids = {
        "input": input,
        "kernel": weight,
        "output": output,
        "grad_output": grad,
        "grad_input": conv2d_input(input.shape, weight, grad, **params),
        "grad_weight": conv2d_weight(input, weight.shape, grad, **params),
        "grad_bias": grad.sum().view(1, 1, 1, 1),
    }
    return {name: grid[0, 0] for name, grid in grids.items()}


def draw(axes: Sequence[AxisOfLayer]) -> Figure:
    """The picture as a figure of matplotlib."""
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError:
        raise ValueError("--output needs the package matplotlib: pip install matplotlib") from None
    figure: Figure = figures.Figure(figsize=SLIDE, layout="constrained")
    grids = numbers_of(axes)
    padding = [axis.padding for axis in axes]
    largest = max(size + 2 * pad for size, pad in zip(grids["input"].shape, padding, strict=True))
    largest = max(largest, *(max(grid.shape) for grid in grids.values()))
    room = largest + 1.2  # of a grid, in cells
    cell = 72 * min(SLIDE[0] / 4, SLIDE[1] / 2) / room  # in points
    for place, name in zip(figure.subplots(2, 4).flat, PLACES, strict=True):
        place.set_axis_off()
        place.set_aspect("equal")
        if name == "legend":
            place.text(0.5, 0.5, legend(axes), ha="center", va="center", transform=place.transAxes)
            continue
        is_padded, has_phases = name == "input", name in ("input", "grad_input")
        around = padding if is_padded else (0, 0)
        phase = phases_of(axes) if has_phases else None
        draw_grid(place, grids[name], around, phase, cell)
        frame(place, name, grids[name], around, room)
    return figure


def legend(axes: Sequence[AxisOfLayer]) -> str:
    lines = ["input i, output o and tap k meet where"]
    lines += [f"{axis.name}s:  i = {axis.relation()}" for axis in axes]
    if any(axis.padding for axis in axes):
        lines += ["", "hatched: padding, where nothing meets"]
    if phases_of(axes):
        lines += ["", "letters: phases, whose pixels meet the same taps"]
    return "\n".join(lines)


def frame(place: Axes, name: str, grid: Tensor, padding: Sequence[int], room: float) -> None:
    """The title, and as much room around the grid as gives all grids cells of one size."""
    height, width = grid.shape
    place.text(
        width / 2,
        -padding[0] - 0.3,
        f"{name}  {height}x{width}",
        ha="center",
        va="bottom",
        fontsize=12,
    )
    place.set_xlim(width / 2 - room / 2, width / 2 + room / 2)
    place.set_ylim(height / 2 + room / 2, height / 2 - room / 2)


def phases_of(axes: Sequence[AxisOfLayer]) -> Callable[[int, int], int] | None:
    """The number of a pixel's phase, whose pixels meet the same taps; None if there is one."""
    rows, columns = (axis.geometry() for axis in axes)
    if rows.phases() * columns.phases() == 1:
        return None
    of_row, of_column = (
        {
            walk.pixel(d): first
            for first in range(geometry.phases())
            for walk in [geometry.inputs_of_phase(first)]
            for d in range(walk.D)
        }
        for geometry in (rows, columns)
    )
    return lambda y, x: of_row[y] * columns.phases() + of_column[x]


def draw_grid(
    place: Axes,
    grid: Tensor,
    padding: Sequence[int],
    phase: Callable[[int, int], int] | None,
    cell: float,
) -> None:
    """One cell for each number, of a width in points; around them the padding, hatched."""
    digits = len(f"{grid.max():.0f}")
    size = min(11.0, cell / (0.85 * digits))  # a digit is 0.64 of its size wide
    patches = importlib.import_module("matplotlib.patches")
    height, width = grid.shape
    top, left = padding
    for y in range(-top, height + top):
        for x in range(-left, width + left):
            inside = 0 <= y < height and 0 <= x < width
            number = phase(y, x) if phase and inside else None
            colour = "white" if number is None else COLOURS[number % len(COLOURS)]
            style = {"facecolor": colour} if inside else {"facecolor": "white", "hatch": "///"}
            place.add_patch(
                patches.Rectangle((x, y), 1, 1, edgecolor="#777777", linewidth=0.8, **style)
            )
            if inside:
                at = (x + 0.5, y + (0.6 if phase else 0.5))
                place.text(*at, f"{grid[y, x]:.0f}", ha="center", va="center", fontsize=size)
            if number is not None:
                small: dict[str, Any] = {"va": "top", "fontsize": 0.28 * cell, "gid": "phase"}
                place.text(x + 0.06, y + 0.02, LETTERS[number], **small)
