"""Every cell of docs/works.md: PyTorch's uses of our convolution and of its own.

Ours has to be right in every cell, except where the cell gives a reason. The page is compared
with the results of the cells, so a release of PyTorch that does better or worse fails here.
"""

from __future__ import annotations

from typing import Any

import pytest
import works
from cells import IMPLEMENTATIONS, OURS, RIGHT, TORCHS, Cell, load_cells, outcome_of, run_check

CELLS = load_cells()
RELEASE, OUTCOMES = works.recorded()


def asked(cells: list[Cell]) -> list[Any]:
    marks = {True: (pytest.mark.slow,), False: ()}
    return [pytest.param(cell, id=str(cell), marks=marks[cell.slow]) for cell in cells]


@pytest.mark.parametrize("cell", asked([cell for cell in CELLS if not cell.limit]))
def test_ours_is_right(cell: Cell) -> None:
    run_check(cell.check, OURS)


@pytest.mark.parametrize("cell", asked([cell for cell in CELLS if cell.limit]))
def test_limits_of_ours_are_those_of_the_page(cell: Cell) -> None:
    """Pinned: remove one from the page when it is solved."""
    skip_another_release()
    assert outcome_of(cell.check, OURS) == OUTCOMES[str(cell)][OURS.name]


@pytest.mark.parametrize("cell", asked(CELLS))
def test_torchs_is_that_of_the_page(cell: Cell) -> None:
    skip_another_release()
    assert outcome_of(cell.check, TORCHS) == OUTCOMES[str(cell)][TORCHS.name]


def skip_another_release() -> None:
    if works.torch_release() != RELEASE:
        pytest.skip(f"the page is about torch {RELEASE}")


def test_cells_have_names_of_their_own() -> None:
    assert list(OUTCOMES) == [str(cell) for cell in CELLS]
    assert len(OUTCOMES) == len(CELLS)


def test_page_is_that_of_the_outcomes() -> None:
    """Written by `make works`."""
    assert works.PAGE.read_text() == works.render(RELEASE, OUTCOMES)


def test_page_has_ours_right_but_for_limits() -> None:
    for cell in CELLS:
        outcome = OUTCOMES[str(cell)][OURS.name]
        assert outcome == RIGHT or cell.limit, f"{cell}: {outcome}"
        assert set(OUTCOMES[str(cell)]) == {i.name for i in IMPLEMENTATIONS}
