"""The page of one layer, for a browser: ``python -m convgrad_ext explain --output layer.html``.

One file without a request: the texts of convgrad_ext/explain/web, one behind the other. The page
computes everything by itself, from the meetings of each axis; only its still comes from here.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from string import Template

from torch import Tensor

from convgrad_ext.explain.layer import LETTERS, AxisOfLayer, numbers_of, phases_of
from convgrad_ext.explain.text import explain

WEB = Path(__file__).parent / "web"
# Each file uses names of those before it.
SCRIPTS = (
    "meetings.js",
    "layer.js",
    "formulas.js",
    "state.js",
    "grids.js",
    "controls.js",
    "main.js",
)


def save(axes: Sequence[AxisOfLayer], path: Path) -> None:
    path.write_text(page(axes), encoding="utf-8")


def page(axes: Sequence[AxisOfLayer]) -> str:
    """The page as text."""
    return Template(read("page.html")).substitute(
        style=read("page.css"),
        script="\n".join([library(read("lit-html.js")), *map(read, SCRIPTS)]),
        licence=html.escape(read("lit-html.LICENSE")),
        layer=json.dumps(initial(axes)),
        formulas=html.escape("\n".join(explain(axes))),
        still="\n".join(tables(axes)),
    )


def read(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


def library(module: str) -> str:
    """A module as a function that returns its exports: two modules in one page cannot import."""
    body, exported = re.split(r"export\{(?=[^}]*\};)", module)
    names = re.sub(r"([\w$]+) as ([\w$]+)", r"\2: \1", exported.partition("}")[0])
    return f"const {{html, nothing, render}} = (() => {{{body}return {{{names}}};}})();"


def initial(axes: Sequence[AxisOfLayer]) -> dict[str, dict[str, int]]:
    """The state that the page starts with."""
    return {
        f"{axis.name}s": {
            **{name: getattr(axis, name) for name in ("input", "kernel", "stride", "dilation")},
            "before": axis.padding,
            "behind": axis.padding,
        }
        for axis in axes
    }


def tables(axes: Sequence[AxisOfLayer]) -> Iterator[str]:
    """The seven grids, for a browser without JavaScript."""
    phase = phases_of(axes)
    for name, numbers in numbers_of(axes).items():
        has_phases = phase is not None and name in ("input", "grad_input")
        yield f"<table><caption>{name}</caption>"
        yield from rows(numbers, phase if has_phases else None)
        yield "</table>"


def rows(numbers: Tensor, phase: Callable[[int, int], int] | None) -> Iterator[str]:
    for y, row in enumerate(numbers.tolist()):
        cells = []
        for x, number in enumerate(row):
            if phase is None:
                cells.append(f"<td>{number:.0f}</td>")
            else:
                of_cell = phase(y, x)
                letter = f"<small>{LETTERS[of_cell]}</small>"
                cells.append(f'<td class="p{of_cell % 8}">{number:.0f}{letter}</td>')
        yield f"<tr>{''.join(cells)}</tr>"
