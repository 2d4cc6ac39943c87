"""A picture of one layer and its gradients: ``python -m convgrad_ext explain --output layer.svg``.

Seven grids with whole numbers: the input, the kernel and the gradient of the output count 1, 2, 3
and so on; the others follow from them, by the passes of this package. Needs matplotlib.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from convgrad_ext.explain.layer import LETTERS, AxisOfLayer, numbers_of, phases_of, unread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Light enough for black numbers, and told apart by most who see few colours (Okabe and Ito).
COLOURS = ("#f5d58a", "#a9d8f5", "#8fd6bd", "#f3b79a", "#e3bcd4", "#cfd8a5", "#b9bfe8", "#dddddd")
SLIDE = (13.33, 7.5)  # inches: 16 to 9
PLACES = (
    *("input", "kernel", "output", "legend"),
    *("grad_input", "grad_weight", "grad_output", "grad_bias"),
)


def save(axes: Sequence[AxisOfLayer], path: Path) -> None:
    draw(axes).savefig(path, dpi=144)


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
    notes = [
        f"{reason}: {axis.name} {', '.join(map(str, pixels))}"
        for axis in axes
        for reason, pixels in unread(axis).items()
    ]
    if notes:
        lines += ["", *notes, "grad_input is 0 there"]
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
