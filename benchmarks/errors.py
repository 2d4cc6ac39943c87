"""What a user can get wrong, told in one sentence."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

BAD_INPUT = 2
INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended


class BadInputError(Exception):
    """A request that cannot be fulfilled; its text is one sentence that says why."""


class Parser(argparse.ArgumentParser):
    """Raises instead of printing its usage, so that every mistake is told in the same form."""

    def error(self, message: str) -> NoReturn:
        raise BadInputError(f"{message}; see --help")


def one_of(what: str, names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """`names` as a tuple if all of them are known."""
    names, known = tuple(names), tuple(known)
    for name in names:
        if name not in known:
            raise BadInputError(f"unknown {what} '{name}', known are {', '.join(known)}")
    return names


def exit_code_of(program: str, main: Callable[..., int], *args: Any) -> int:
    """The exit code of main; bad input is one sentence and 2."""
    try:
        return main(*args)
    except BadInputError as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        return BAD_INPUT
