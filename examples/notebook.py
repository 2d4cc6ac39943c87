"""Writes by_hand.ipynb from by_hand.py, executed: ``make notebook``."""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

SOURCE = Path(__file__).parent / "by_hand.py"
NOTEBOOK = SOURCE.with_suffix(".ipynb")


def executed() -> NotebookNode:
    """The cells of by_hand.py with what they print."""
    notebook = jupytext.read(SOURCE)
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # else a random one, another each time
    return NotebookClient(notebook, kernel_name="python3", record_timing=False).execute()


def read() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)
