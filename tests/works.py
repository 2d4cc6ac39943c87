"""Writes docs/works.md, the table of PyTorch's uses of a convolution: `make works`.

`python tests/works.py PATTERN` runs only cells whose "group: name" has the pattern, and new ones.

The page is made from the outcomes in cells/outcomes.json. test_works.py compares both
with the cells.
"""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from cells import IMPLEMENTATIONS, OURS, RIGHT, WRONG, Cell, load_cells, outcome_of

OUTCOMES = Path(__file__).parent / "cells" / "outcomes.json"
PAGE = Path(__file__).parents[1] / "docs" / "works.md"
Outcomes = dict[str, dict[str, str]]

INTRODUCTION = """\
# What PyTorch does to a convolution

Each line is one feature of PyTorch {torch} applied to a convolution on the CPU, and a check of the
result: values against a sum over taps in float64, a refusal where one is right. The same lines of
code ask `convgrad_ext.conv2d` and `F.conv2d`, or their layers. A warning counts as an error.

- `right`: the result that the line names.
- `wrong value`: another result, without an error.
- `raises ...`: an error or a warning of this type.

`make works` asks every cell and writes this page. `make test` asks the quick ones again and
compares, `make test-slow` all of them.
"""
LEGEND = """\
The rows are the outer transforms, the columns the inner ones. The first mark is ours, the second
that of `F.conv2d`: `+` is right, `-` a wrong value, `E` an error.
"""
MARKS = {RIGHT: "+", WRONG: "-"}


def torch_release() -> str:
    """Without the build's name: 2.13.0 of 2.13.0+cpu."""
    return torch.__version__.split("+")[0]


def recorded() -> tuple[str, Outcomes]:
    """The release of torch that the page is about, and the outcomes by cell and implementation."""
    content = json.loads(OUTCOMES.read_text())
    return content["torch"], content["outcomes"]


def is_nesting(cell: Cell) -> bool:
    return " of " in cell.group


def table_row(entries: list[str]) -> str:
    return f"| {' | '.join(entries)} |"


def list_of(cells: list[Cell], outcomes: Outcomes) -> list[str]:
    """A line a cell."""
    lines = ["| feature | what is checked | convgrad_ext | F.conv2d |", "|---|---|---|---|"]
    for cell in cells:
        results = [outcomes[str(cell)][i.name] for i in IMPLEMENTATIONS]
        lines.append(table_row([cell.name, cell.meaning, *results]))
    return lines


def matrix_of(cells: list[Cell], outcomes: Outcomes) -> list[str]:
    """A line an outer transform, a column an inner one."""
    by_name = {cell.name: outcomes[str(cell)] for cell in cells}
    outers, inners = (
        list(dict.fromkeys(name.split(" of ")[side] for name in by_name)) for side in (0, 1)
    )
    lines = [LEGEND, table_row(["", *inners]), "|---" * (len(inners) + 1) + "|"]
    for outer in outers:
        pairs = [by_name[f"{outer} of {inner}"] for inner in inners]
        marks = ["".join(MARKS.get(p[i.name], "E") for i in IMPLEMENTATIONS) for p in pairs]
        lines.append(table_row([outer, *marks]))
    return lines


def limits_of(cells: list[Cell], outcomes: Outcomes) -> list[str]:
    """The reasons of the cells where ours is not right, a paragraph each."""
    lines = ["", "## Limits"]
    limited = [c for c in cells if c.limit and outcomes[str(c)][OURS.name] != RIGHT]
    for reason in dict.fromkeys(cell.limit for cell in limited):
        names = [cell.name for cell in limited if cell.limit == reason]
        lines += ["", f"**{'; '.join(names)}.** {reason}"]
    return lines


def render(release: str, outcomes: Outcomes) -> str:
    """The page."""
    lines = [INTRODUCTION.format(torch=release)]
    for group, members in groupby(load_cells(), lambda cell: cell.group):
        cells = list(members)
        lines += [f"## {group}", ""]
        lines += (matrix_of if is_nesting(cells[0]) else list_of)(cells, outcomes)
        lines.append("")
    return "\n".join([*lines[:-1], *limits_of(load_cells(), outcomes)]) + "\n"


def main(pattern: str = "") -> None:
    """Runs every cell, or those whose name has the pattern, and writes outcomes and page."""
    known = recorded()[1] if pattern else {}
    outcomes: Outcomes = {}
    for cell in load_cells():
        name = str(cell)
        if name in known and pattern not in name:
            outcomes[name] = known[name]
            continue
        outcomes[name] = {i.name: outcome_of(cell.check, i) for i in IMPLEMENTATIONS}
        print(f"{name}: {', '.join(outcomes[name].values())}", flush=True)
    content: dict[str, Any] = {"torch": torch_release(), "outcomes": outcomes}
    OUTCOMES.write_text(json.dumps(content, indent=1) + "\n")
    PAGE.write_text(render(torch_release(), outcomes))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
