"""The speed of every kernel beside its alternatives; see README.md. Here: how mistakes are told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

BAD_INPUT = 2


class BadInputError(Exception):
    """A request that cannot be fulfilled; its text is one sentence that says why."""


class Parser(argparse.ArgumentParser):
    """Raises instead of printing its usage, so that every mistake is told in the same form."""

    def error(self, message: str) -> NoReturn:
        raise BadInputError(f"{message}; see --help")


def names(text: str) -> list[str]:
    """The names in an option such as 'forward,grad_input'."""
    return [name.strip() for name in text.split(",") if name.strip()]


def one_of(noun: str, asked: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """`asked` as a tuple if all of these names are known."""
    asked, known = tuple(asked), tuple(known)
    for name in asked:
        if name not in known:
            raise BadInputError(f"unknown {noun} '{name}', known are {', '.join(known)}")
    return asked


def exit_code_of(program: str, main: Callable[[list[str]], int], argv: list[str]) -> int:
    """The exit code of main; bad input is one sentence and 2."""
    try:
        return main(argv)
    except BadInputError as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        return BAD_INPUT
