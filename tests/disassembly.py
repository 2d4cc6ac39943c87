"""The code of the built module, as objdump lists it."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache

import pytest

from convgrad_ext import _C

NEEDS_OBJDUMP = pytest.mark.skipif(
    shutil.which("objdump") is None, reason="objdump (binutils) reads the module's code"
)
SYMBOL = re.compile(r"^[0-9a-f]+ <(.*)>:$")


@cache
def listing() -> str:
    run = subprocess.run(
        ["objdump", "-d", "-C", "--no-show-raw-insn", "-j", ".text", _C.__file__],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout
