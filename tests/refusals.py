"""The error of a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def error_of(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[type, str]:
    """Type and message of the error that the call raises, to compare with those of another call."""
    try:
        function(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)
    return pytest.fail("the call was accepted")
