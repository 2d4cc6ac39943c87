"""Cells of the table "what PyTorch does to a function", docs/works.md.

A cell is one feature of PyTorch applied to a convolution, and a check that raises if the result is
wrong. It takes the convolution as an argument, so that the same lines ask ours and PyTorch's.
Expected values come from `plain.conv2d`, a sum over taps of products, or from the pencil.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convgrad_ext


@dataclass(frozen=True)
class Implementation:
    """A convolution as a function and as a layer."""

    name: str
    conv2d: Callable[..., Tensor]
    Conv2d: type[nn.Conv2d]


OURS = Implementation("convgrad_ext", convgrad_ext.conv2d, convgrad_ext.Conv2d)
TORCHS = Implementation("F.conv2d", F.conv2d, nn.Conv2d)
IMPLEMENTATIONS = (OURS, TORCHS)

Check = Callable[[Implementation], None]


@dataclass(frozen=True)
class Cell:
    """`limit` says why ours is not right; a cell without it has to be."""

    group: str
    name: str
    meaning: str
    check: Check
    limit: str
    slow: bool

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


CELLS: list[Cell] = []
# In the order of the table; a module may be imported before another, for its doctests for example.
GROUPS = (
    "torch.func",
    "torch.func of torch.func",
    "torch.compile",
    "torch.compile of torch.func of torch.func",
    "export",
    "tracers",
    "autograd",
    "modes",
    "layers",
    "two processes",
    "tools",
)
RIGHT, WRONG = "right", "wrong value"
EXPECTED_WARNINGS = (  # patterns; torch says these of its own code
    ("`torch.jit.*` is deprecated", DeprecationWarning),
    ("There is a performance drop", UserWarning),
    (r"`isinstance\(treespec, LeafSpec\)`", FutureWarning),
    ("Attempted to insert a get_attr Node", UserWarning),
)


def cell(
    group: str, name: str, meaning: str, *, limit: str = "", slow: bool = False
) -> Callable[[Check], Check]:
    """Registers a check. Within its group, cells have the order of registration."""

    def register(check: Check) -> Check:
        CELLS.append(Cell(group, name, meaning, check, limit, slow))
        return check

    return register


def run_check(check: Check, implementation: Implementation) -> None:
    """The check in a fresh compiler; a warning is an error."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for text, category in EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", text, category)
            check(implementation)
    finally:
        torch._dynamo.reset()


def outcome_of(check: Check, implementation: Implementation) -> str:
    """`right`, `wrong value` or the type of the error."""
    try:
        run_check(check, implementation)
    except AssertionError:
        return WRONG
    except Exception as error:
        return f"raises {type(error).__name__}"
    return RIGHT


def load_cells() -> list[Cell]:
    """Every cell, in the order of the table."""
    for module in ("functions", "compiled", "exported", "recording", "layers", "parallel", "tools"):
        importlib.import_module(f"cells.{module}")
    return sorted(CELLS, key=lambda cell: GROUPS.index(cell.group))
