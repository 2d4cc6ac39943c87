"""How long the files and functions of this repository are.

A function is as long as its lines from the signature to the end. Its docstring is not counted,
because a long explanation makes no long function.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lizard

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("csrc", "convgrad_ext", "tests", "benchmarks", "examples", "docs")
CPP = {".cpp", ".h", ".inl"}
PYTHON = {".py", ".pyi"}
SCRIPT = {".js"}
VENDORED = {"lit-html.js"}


@dataclass(frozen=True)
class Function:
    place: str
    name: str
    lines: int

    def __str__(self) -> str:
        return f"{self.place}: {self.name} has {self.lines} lines"


def files(folder: str) -> Iterator[Path]:
    for path in sorted((REPOSITORY / folder).rglob("*")):
        if path.suffix in CPP | PYTHON | SCRIPT and path.name not in VENDORED:
            yield path


def functions(path: Path) -> list[Function]:
    text = path.read_text()
    language = "js" if path.suffix in SCRIPT else "cpp"
    found = python_functions(text) if path.suffix in PYTHON else other_functions(text, language)
    return [Function(path.name, name, lines) for name, lines in found]


def python_functions(text: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, line_count(node) - docstring_lines(node)


def line_count(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return 0 if ast.get_docstring(node) is None else line_count(node.body[0])


def other_functions(text: str, language: str) -> Iterator[tuple[str, int]]:
    """lizard finds them without a compiler. It would not take a name that ends in .inl."""
    source = lizard.analyze_file.analyze_source_code(f"text.{language}", text)
    for function in source.function_list:
        yield function.name, function.length
