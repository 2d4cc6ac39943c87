"""Winograd's loops run where the user allows them, and on the same layers whatever the batch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from kernel_names import FAST

import convgrad_ext
from convgrad_ext import (
    allow_winograd,
    info,
    plans,
    use_kernel,
    winograd_allowed,
)

# A layer that gains by it on every instruction set.
INPUT = torch.randn(6, 64, 26, 26, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(64, 64, 3, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with allow_winograd(False):
        yield


def output(images: int = 6, filters: int = 64) -> torch.Tensor:
    return convgrad_ext.conv2d(INPUT[:images], WEIGHT[:filters])


def forward_path(images: int = 6, filters: int = 64) -> str:
    return convgrad_ext.plans(INPUT[:images], WEIGHT[:filters])[0].path


def other_digits() -> bool:
    """The transforms round differently from the loops over all taps."""
    allowed = output()
    with allow_winograd(False):
        return not torch.equal(allowed, output())


def test_it_holds_from_the_call_on() -> None:
    allow_winograd(True)
    assert winograd_allowed()
    assert forward_path() == "winograd"
    assert other_digits()
    allow_winograd(False)
    assert not winograd_allowed()
    assert forward_path() == "direct"
    assert not other_digits()


def test_a_with_block_restores_what_held_before() -> None:
    with allow_winograd(True):
        with allow_winograd(False):
            assert not winograd_allowed()
        assert winograd_allowed()
    assert not winograd_allowed()


def test_an_exception_restores_as_well() -> None:
    with pytest.raises(KeyError), allow_winograd(True):
        raise KeyError
    assert not winograd_allowed()


@pytest.mark.parametrize("allowed", ["yes", 1, None], ids=repr)
def test_another_argument_is_refused_and_changes_nothing(allowed: object) -> None:
    with pytest.raises(TypeError) as refusal:
        allow_winograd(allowed)  # type: ignore[arg-type]
    assert str(refusal.value) == (
        f"allow_winograd: allowed must be True or False, but got {allowed!r}"
    )
    assert not winograd_allowed()


@pytest.mark.parametrize("name", FAST)
def test_few_channels_take_the_loops_over_all_taps(name: str) -> None:
    """There the transforms would cost more than the products they save."""
    with use_kernel(name), allow_winograd(True):
        forward = plans(torch.empty(1, 5, 10, 10), torch.empty(16, 5, 3, 3))[0]
    assert (forward.path, forward.reason) == (
        "direct",
        "Winograd is allowed, but its transforms cost more than they save",
    )


@pytest.mark.parametrize("images", [1, 2, 6])
@pytest.mark.parametrize("filters", [3, 32, 64])
def test_the_layer_decides_not_the_batch_nor_the_filters(images: int, filters: int) -> None:
    """And so the element's own digits: the transforms do not mix images or filters."""
    with allow_winograd(True):
        assert torch.equal(output(images, filters), output()[:images, :filters])
        assert forward_path(images, filters) == "winograd"


def test_info_tells_of_it() -> None:
    with allow_winograd(True):
        cells = [list(column.cells) for column in info.versions().columns]
    assert ("Winograd", "allowed") in zip(*cells, strict=True)


def python(variable: str | None, code: str) -> subprocess.CompletedProcess[str]:
    """A new interpreter with CONVGRAD_WINOGRAD set so, or not at all."""
    environment = {name: v for name, v in os.environ.items() if name != "CONVGRAD_WINOGRAD"}
    if variable is not None:
        environment["CONVGRAD_WINOGRAD"] = variable
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("variable", "allowed"), [(None, "False"), ("", "False"), ("0", "False"), ("1", "True")]
)
def test_the_environment_says_what_holds_at_first(variable: str | None, allowed: str) -> None:
    run = python(variable, "import convgrad_ext; print(convgrad_ext.winograd_allowed())")
    assert run.stdout.strip() == allowed, run.stderr


def test_a_bad_variable_is_refused_by_the_import() -> None:
    run = python("yes", "import convgrad_ext")
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "ValueError: CONVGRAD_WINOGRAD must be 0 or 1, but got 'yes'"
    )
