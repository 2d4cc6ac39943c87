"""The speed of every kernel beside its alternatives; see README.md. Here: how mistakes are told."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable
from math import inf
from typing import NoReturn

BAD_INPUT = 2


class BadInputError(Exception):
    """A request that cannot be fulfilled; its text is one sentence that says why."""


class Parser(ArgumentParser):
    """Raises instead of printing its usage, so that every mistake is told in the same form."""

    def __init__(self, prog: str, description: str | None) -> None:
        super().__init__(prog, description=description, formatter_class=RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        raise BadInputError(f"{message}; see --help")


# The values of options.


def names(noun: str, known: Iterable[str], text: str) -> list[str]:
    """The names in an option such as 'forward,grad_input', all of which have to be known."""
    known, asked = tuple(known), text.split(",")
    for name in asked:
        if name not in known:
            raise BadInputError(f"unknown {noun} '{name}', known are {', '.join(known)}")
    return asked


def whole(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"'{text}' is no whole number from 1")
    return int(text)


def wholes(text: str) -> list[int]:
    return [*map(whole, text.split(","))]


def positive(text: str) -> float:
    if not 0 < float(text) < inf:
        raise ArgumentTypeError(f"'{text}' is no positive number")
    return float(text)


def exit_code_of(program: str, main: Callable[[list[str]], int], argv: list[str]) -> int:
    """The exit code of main; bad input is one sentence and 2."""
    try:
        return main(argv)
    except BadInputError as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        return BAD_INPUT
