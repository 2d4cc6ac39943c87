"""``python -m convgrad_ext check``: are a conv2d and its derivatives right on this machine?"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from convgrad_ext.cases import CASES, Case
from convgrad_ext.functional import conv2d

Conv = Callable[..., Tensor]


def value(conv: Conv, case: Case) -> None:
    """Output and gradients equal those of torch.nn.functional.conv2d on the padded image."""
    leaves = [t.requires_grad_() for t in case.tensors(torch.float64)]
    expected = case.torch_conv2d(*leaves)
    actual = conv(*leaves, **case.params)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    grads = (torch.autograd.grad(y.square().sum(), leaves) for y in (actual, expected))
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-11)


def first_derivative(conv: Conv, case: Case) -> None:
    """The backward equals finite differences."""
    gradcheck(bound(conv, case), leaves_of(case), check_batched_grad=True)


def second_derivative(conv: Conv, case: Case) -> None:
    """The backward of the backward equals finite differences."""
    gradgradcheck(bound(conv, case), leaves_of(case), fast_mode=True)


def forward_mode(conv: Conv, case: Case) -> None:
    """The tangents equal finite differences."""
    gradcheck(bound(conv, case), leaves_of(case), check_forward_ad=True, check_backward_ad=False)


CHECKS = {
    "value": value,
    "gradcheck": first_derivative,
    "gradgradcheck": second_derivative,
    "forward mode": forward_mode,
}


def run(console: Console, implementation: str | None) -> int:
    """Sweeps the named cases; the exit code is 1 if anything failed."""
    conv = conv2d if implementation is None else load(implementation)
    # Padding that PyTorch's signature does not have is checked for our own conv2d alone.
    cases = [case for case in CASES if implementation is None or case.in_torch]
    sweep = track(cases, "gradcheck", console=console, transient=True)
    results = [
        (case, [failure_of(check, conv, case) for check in CHECKS.values()]) for case in sweep
    ]
    console.print(table_of(results, implementation or "convgrad_ext:conv2d"))
    failures = [failure for _, row in results for failure in row if failure]
    report(console, results)
    return 1 if failures else 0


def load(implementation: str) -> Conv:
    """The function that 'package.module:function' names."""
    module_name, colon, function_name = implementation.partition(":")
    if not colon:
        raise ValueError(f"--impl must be package:function, but got {implementation!r}")
    try:
        conv = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--impl {implementation}: {error}") from error
    if not callable(conv):
        raise ValueError(f"--impl {implementation}: {function_name} is not callable")
    return conv


def failure_of(check: Callable[[Conv, Case], None], conv: Conv, case: Case) -> str:
    """What went wrong, in a line; empty if nothing did."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own warning about forward mode under vmap
            check(conv, case)
    except Exception as error:  # any error of another implementation is a finding
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return ""


def table_of(results: list[tuple[Case, list[str]]], title: str) -> Table:
    table = Table("case", "why it is there", *CHECKS, title=title, title_justify="left")
    for case, failures in results:
        marks = ("[red]fails" if failure else "[green]holds" for failure in failures)
        table.add_row(case.name, case.reason, *marks)
    return table


def report(console: Console, results: list[tuple[Case, list[str]]]) -> None:
    for case, failures in results:
        for name, failure in zip(CHECKS, failures, strict=True):
            if failure:
                console.print(f"[red]{case.name}, {name}:[/] {failure}", highlight=False)
    failed = sum(bool(failure) for _, failures in results for failure in failures)
    console.print(f"{len(results)} cases, {len(results) * len(CHECKS)} checks, {failed} failed")


def leaves_of(case: Case) -> list[Tensor]:
    return [t.requires_grad_() for t in case.tensors(torch.float64)]


def bound(conv: Conv, case: Case) -> Conv:
    return lambda *leaves: conv(*leaves, **case.params)
