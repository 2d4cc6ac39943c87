"""The command line: ``python -m convgrad_ext info``, ``check`` and ``explain``."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from convgrad_ext import check, explain, info


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    console = Console()
    if options.command == "info":
        return info.run(console)
    try:
        if options.command == "explain":
            return explain.run(options)
        return check.run(console, options.impl)
    except ValueError as error:
        print(f"convgrad_ext {options.command}: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m convgrad_ext", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="versions, processor and kernels")
    checker = commands.add_parser("check", help="check conv2d and its derivatives on this machine")
    checker.add_argument(
        "--impl",
        metavar="PACKAGE:FUNCTION",
        help="another implementation of conv2d, such as torch.nn.functional:conv2d",
    )
    explain.add_arguments(commands.add_parser("explain", help="the passes of a layer as formulas"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
