"""python -m convgrad_ext: its output and its exit codes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor

import convgrad_ext
from convgrad_ext import _C, check, info
from convgrad_ext.__main__ import main
from convgrad_ext.cases import CASES


@pytest.fixture(autouse=True)
def _wide_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal without wrapped cells, and three cases instead of all."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(check, "CASES", [CASES[0], CASES[8], CASES[-1]])


def without_forward_mode(*args: Any, **kwargs: Any) -> Tensor:
    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            ctx.save_for_backward(input, weight, bias)
            return F.conv2d(input, weight, bias, **kwargs)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Any:
            with torch.enable_grad():
                leaves = [t.detach().requires_grad_() for t in ctx.saved_tensors]
                return torch.autograd.grad(F.conv2d(*leaves, **kwargs), leaves, grad)

    return Reverse.apply(*args)


def ignores_stride(input: Tensor, weight: Tensor, bias: Tensor, **params: Any) -> Tensor:
    return F.conv2d(input, weight, bias, **params | {"stride": 1})


def test_info_names_versions_and_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert torch.__version__ in printed
    assert convgrad_ext.__version__ in printed
    assert all(name in printed for name in convgrad_ext.available_kernels())


def rows(table: Table) -> dict[str, tuple[str, ...]]:
    """The cells of each row behind its first one."""
    cells = zip(*(column.cells for column in table.columns), strict=True)
    return {str(name): tuple(map(str, rest)) for name, *rest in cells}


def test_info_tells_the_caches_that_plans_count_with() -> None:
    before = _C.set_cache_sizes((48 << 10, 2 << 20))
    try:
        told = rows(info.versions())
    finally:
        _C.set_cache_sizes(before)
    assert told["L1d, L2 that plans count with"] == ("48 KiB, 2048 KiB",)


@pytest.mark.parametrize("variable", ["CONVGRAD_ISA", "CONVGRAD_CACHE", "CONVGRAD_LOG"])
def test_info_tells_the_variables(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(variable, raising=False)
    assert rows(info.versions())[variable] == ("not set",)
    monkeypatch.setenv(variable, "a value")
    assert rows(info.versions())[variable] == ("a value",)


@pytest.mark.usefixtures("kernel")
def test_info_tells_the_path_of_some_layers(
    kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One tap, nine taps, phases of 1, 2, 2 and 4 taps; and nine taps with Winograd."""
    with convgrad_ext.allow_winograd(False):
        told = rows(info.paths())
    if kernel == "reference":
        assert set(told["1x1"]) == {"reference"}
        return
    assert told == {
        "1x1": ("pixelwise", "pixelwise", "direct"),
        "3x3": ("direct", "direct", "direct"),
        "3x3, stride 2": ("direct", "3 direct, 1 pixelwise", "direct"),
        "3x3, depthwise": ("depthwise", "depthwise", "depthwise"),
        "3x3, Winograd allowed": ("winograd", "winograd", "winograd"),
    }
    assert main(["info"]) == 0
    assert "3 direct, 1 pixelwise" in capsys.readouterr().out


def test_info_changes_no_permission() -> None:
    for allowed in (False, True):
        with convgrad_ext.allow_winograd(allowed):
            info.paths()
            assert convgrad_ext.winograd_allowed() is allowed


def test_check_of_our_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    printed = capsys.readouterr().out
    assert "3 cases, 12 checks, 0 failed" in printed
    assert "fails" not in printed


def test_check_of_torch_leaves_out_what_torch_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--impl", "torch.nn.functional:conv2d"]) == 0
    printed = capsys.readouterr().out
    assert "2 cases, 8 checks, 0 failed" in printed
    assert "torch.nn.functional:conv2d" in printed


def test_check_finds_a_wrong_value(capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong where the stride is 2, right elsewhere; as a derivative of itself it is consistent."""
    assert main(["check", "--impl", "test_command_line:ignores_stride"]) == 1
    printed = capsys.readouterr().out
    assert "strided, value: AssertionError" in printed
    assert "2 cases, 8 checks, 1 failed" in printed


def test_check_finds_missing_derivatives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--impl", "test_command_line:without_forward_mode"]) == 1
    printed = capsys.readouterr().out
    assert "plain, forward mode: " in printed
    assert "plain, value" not in printed


@pytest.mark.parametrize(
    ("implementation", "reason"),
    [
        pytest.param("torch", "must be package:function, but got 'torch'", id="no function"),
        pytest.param("no_such:conv2d", "No module named 'no_such'", id="no module"),
        pytest.param("torch:conv7d", "has no attribute 'conv7d'", id="no such function"),
        pytest.param("torch:__version__", "__version__ is not callable", id="not a function"),
    ],
)
def test_check_refuses_what_it_cannot_load(
    implementation: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--impl", implementation]) == 2
    assert reason in capsys.readouterr().err


def test_the_module_runs_as_a_program() -> None:
    run = [sys.executable, "-m", "convgrad_ext"]
    assert subprocess.run([*run, "info"], capture_output=True, check=False).returncode == 0
    assert subprocess.run(run, capture_output=True, check=False).returncode == 2
