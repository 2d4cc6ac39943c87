"""Makes tables and pictures of a result file, and says what changed since an older one.

    python benchmarks/report.py results.json --output build/bench
    python benchmarks/report.py results.json older.json --output build/bench

DIR/report.md has everything, DIR/README-table.md the means of the fastest kernel alone,
without and with Winograd.
"""

from __future__ import annotations

import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as python -m would

from benchmarks.comparison import compare, timed
from benchmarks.conditions import conditions, warnings
from benchmarks.errors import BadInputError, Parser, exit_code_of
from benchmarks.figures import draw_all
from benchmarks.kernel_names import plain
from benchmarks.results import Document, load
from benchmarks.tables import (
    MAIN_BASELINE,
    below_one,
    changes,
    class_tables,
    groups_of,
    means,
    means_table,
    name_of,
    rows_of,
)


def parser() -> Parser:
    parser = Parser(
        prog="benchmarks/report.py",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path)
    parser.add_argument("older", type=Path, nargs="?")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    return parser


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    document = load(arguments.results)
    if not timed(document):
        raise BadInputError(f"{arguments.results} has no timed rows")
    compared: list[str] = []
    if arguments.older:
        older = load(arguments.older)
        compared = [
            *changes(compare(document, older), arguments.older.name),
            *(f"The older run: {sentence}\n" for sentence in warnings(older)),
        ]
    folder: Path = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw_all(document, folder)
    write(folder / "report.md", report(document, compared, pictures))
    write(folder / "README-table.md", readme_table(document))
    return 0


def report(document: Document, compared: list[str], pictures: list[str]) -> list[str]:
    return [
        "# Benchmark",
        "",
        *conditions(document),
        *(f"**{sentence}**\n" for sentence in warnings(document)),
        *compared,
        *means(document),
        *(f"![{Path(name).stem}]({name})\n" for name in pictures),
        *below_one(document),
        *class_tables(document),
    ]


def readme_table(document: Document) -> list[str]:
    """The fastest kernel alone, without and with Winograd, with the conditions under it."""
    lines = ["Speed of our kernel / that of `F.conv2d`, geometric means by class and pass.", ""]
    kernel = plain(timed(document)[0]["kernel"])
    for group in groups_of(timed(document)):
        if plain(group[0]) == kernel:
            lines += [f"**{name_of(group)}**", ""]
            lines += means_table(rows_of(timed(document), group), MAIN_BASELINE)
    lines += ["![ratios by class](ratios.png)", "", *conditions(document)]
    return lines + [f"**{sentence}**\n" for sentence in warnings(document)]


def write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines).rstrip() + "\n")
    print(path)


if __name__ == "__main__":
    sys.exit(exit_code_of("benchmarks/report.py", main, sys.argv[1:]))
