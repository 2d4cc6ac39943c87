"""The command's arguments, and which explanation they ask for."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from convgrad_ext.explain import files, page, still
from convgrad_ext.explain.layer import AxisOfLayer, check
from convgrad_ext.explain.text import explain

MOST = 512  # pixels, or taps: nobody reads more
SAVE = {".html": page.save, ".png": still.save, ".svg": still.save}


def add_arguments(parser: ArgumentParser) -> None:
    """Each argument has one number for both axes, or one for rows and one for columns."""
    several = "; one for both axes, or rows and columns"
    add, positive, natural = parser.add_argument, number_from(1), number_from(0)
    add("--input", nargs="+", type=positive, default=[7], help="pixels; default: 7" + several)
    add("--kernel", nargs="+", type=positive, default=[3], help="taps; default: 3" + several)
    add("--stride", nargs="+", type=positive, default=[1], help="default: 1" + several)
    add("--padding", nargs="+", type=natural, default=[0], help="a side; default: 0" + several)
    add("--dilation", nargs="+", type=positive, default=[1], help="default: 1" + several)
    what = "an interactive page, .html, or a picture, .png or .svg; default: text in the terminal"
    add("--output", type=Path, help=what)


def number_from(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= MOST:
            raise ArgumentTypeError(f"must be a number from {least} to {MOST}, but got {text!r}")
        return int(text)

    return number


def run(options: Namespace) -> int:
    """Prints the explanation, or saves it. Raises a ValueError for arguments that make no layer."""
    names = ("input", "kernel", "stride", "padding", "dilation")
    pairs = {name: both_axes(name, getattr(options, name)) for name in names}
    axes = [
        AxisOfLayer(name, **{key: pair[i] for key, pair in pairs.items()})
        for i, name in enumerate(("row", "column"))
    ]
    if options.output is None:
        print("\n".join(explain(axes)))
    else:
        save(axes, options.output)
        print(f"wrote {options.output}")
    return 0


def both_axes(name: str, numbers: Sequence[int]) -> Sequence[int]:
    if len(numbers) > 2:
        raise ValueError(f"--{name} must be one or two numbers, but got {len(numbers)}")
    return [*numbers] * 2 if len(numbers) == 1 else numbers


def save(axes: Sequence[AxisOfLayer], path: Path) -> None:
    """Writes the page or the picture that the path's suffix names, whole or not at all.

    Raises:
        ValueError: "--output must end in .html, .png or .svg, but got 'layer.gif'".
    """
    check(axes)
    if path.suffix not in SAVE:
        *others, last = SAVE
        raise ValueError(f"--output must end in {', '.join(others)} or {last}, but got '{path}'")
    files.check_limits(axes)
    files.replace(path, partial(SAVE[path.suffix], axes))
