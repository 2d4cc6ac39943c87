"""The Triton kernels without a GPU: this starts the tests of tests/interpreted in a new process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NEEDS_TRITON = "the kernels need Triton: pip install triton"


def test_the_kernels_are_right_in_the_interpreter() -> None:
    """Triton reads TRITON_INTERPRET when a kernel is decorated, and then compiles none."""
    pytest.importorskip("triton", reason=NEEDS_TRITON)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TESTS / "interpreted"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:]
    assert " passed" in run.stdout


def test_the_import_of_the_package_imports_no_kernels() -> None:
    code = "import sys, convgrad_ext; print([m for m in sys.modules if 'triton.' in m])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "convgrad_ext.triton." not in run.stdout


def test_without_triton_the_error_names_it() -> None:
    """In a process that has imported nothing of it."""
    code = """
import sys
sys.modules["triton"] = None  # as if it were not installed
from convgrad_ext import triton
try:
    triton.imported("passes")
except ModuleNotFoundError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == (
        "convgrad_ext: convolutions of CUDA tensors need the package triton; pip install triton"
    )
