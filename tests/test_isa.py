"""CONVGRAD_ISA: the environment's choice of the fastest kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from convgrad_ext import _C

FAST = [kernel["name"] for kernel in _C.kernels() if kernel["name"] != "reference"]
HERE = [kernel["name"] for kernel in _C.kernels() if kernel["available"]][:-1]

# The last bits of a sum show whether products are rounded before they are added: (1 + e)^2 - 1 is
# 2e + e^2 with one rounding, and 2e where the product has lost e^2 = 2^-24 beforehand.
REPORT = """
import json, torch, convgrad_ext
from convgrad_ext import info
e = 2.0**-12
input, weight = torch.tensor([[-1.0, 1 + e]]), torch.tensor([[1.0, 1 + e]])
served = convgrad_ext.conv2d(input[..., None, None], weight[..., None, None]).item()
cells = [list(column.cells) for column in info.versions().columns]
try:
    convgrad_ext.use_kernel("avx2").__enter__()
    refusal = None
except ValueError as error:
    refusal = str(error)
print(json.dumps({
    "available": convgrad_ext.available_kernels(),
    "fused": served > 2 * e,
    "info": dict(zip(*cells)),
    "refusal": refusal,
}))
"""


def python(isa: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A new interpreter with this CONVGRAD_ISA, or without the variable."""
    environment = {name: value for name, value in os.environ.items() if name != "CONVGRAD_ISA"}
    if isa is not None:
        environment["CONVGRAD_ISA"] = isa
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@cache
def report(isa: str | None) -> dict[str, Any]:
    run = python(isa, "-c", REPORT)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def unlimited() -> list[str]:
    """The kernels of this processor, for any CONVGRAD_ISA of the tests themselves."""
    return report(None)["available"]


@pytest.mark.parametrize("isa", HERE)
def test_the_named_kernel_is_the_fastest_there_is(isa: str) -> None:
    """Those before it are gone, those after it stay, and the reference with them."""
    assert report(isa)["available"] == unlimited()[unlimited().index(isa) :]


def test_an_empty_variable_is_as_none() -> None:
    """A script that passes an unset variable on sets it to the empty string."""
    assert report("")["available"] == unlimited()
    assert report("")["info"]["CONVGRAD_ISA"] == "not set"


@pytest.mark.skipif("avx2" not in HERE, reason="one instruction set alone fuses or does not")
@pytest.mark.parametrize(("isa", "fused"), [("avx2", True), ("baseline", False)])
def test_the_named_kernel_serves(isa: str, fused: bool) -> None:
    """SSE2 has no fused multiply-add; AVX2's kernel needs it."""
    assert report(isa)["fused"] is fused


@pytest.mark.skipif("avx2" not in HERE, reason="nothing is faster than the baseline here")
def test_what_is_ruled_out_cannot_be_chosen() -> None:
    """The variable acts like a smaller processor: use_kernel does not undo it."""
    assert report("avx2")["refusal"] is None
    assert report("baseline")["refusal"] == (
        "use_kernel: name must be one of 'baseline', 'reference', but got 'avx2'"
    )


@pytest.mark.parametrize(("isa", "shown"), [(None, "not set"), ("baseline", "baseline")])
def test_info_tells_of_it(isa: str | None, shown: str) -> None:
    assert report(isa)["info"]["CONVGRAD_ISA"] == shown


def assert_refused(isa: str) -> None:
    run = python(isa, "-c", "import convgrad_ext")
    names = ", ".join(f"'{name}'" for name in unlimited()[:-1])
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        f"ValueError: CONVGRAD_ISA must be one of {names} on this processor, but got '{isa}'"
    )


@pytest.mark.parametrize(
    "isa",
    [
        pytest.param("sse9", id="unknown"),
        pytest.param("AVX2", id="upper case"),
        pytest.param("reference", id="no instruction set"),
    ],
)
def test_a_bad_value_is_refused_when_the_package_is_imported(isa: str) -> None:
    assert_refused(isa)


def test_what_this_processor_lacks_is_refused() -> None:
    missing = [name for name in FAST if name not in unlimited()]
    if not missing:
        pytest.skip("this processor has all")
    assert_refused(missing[0])


@pytest.mark.parametrize("isa", HERE)
def test_the_passes_are_right_under_each_value(isa: str) -> None:
    """By hand and against PyTorch, with the available kernels."""
    cases = "tests/test_passes.py::test_named_cases_agree_with_torch"
    options = ("-p", "no:cacheprovider", "-k", "not complex128")
    run = python(isa, "-m", "pytest", *options, "tests/test_by_hand.py", cases)
    assert run.returncode == 0, run.stdout + run.stderr
