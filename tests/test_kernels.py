"""Which kernels there are, and the choice between them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

import convgrad_ext
from convgrad_ext import _C, available_kernels, use_kernel

DTYPES = {
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
}
PASSES = ("forward", "grad_input", "grad_weight")
FASTEST, REFERENCE = available_kernels()[0], "reference"


def selected_kernel() -> str | None:
    """The calling thread's choice, or None."""
    previous = _C.select_kernel(None)
    _C.select_kernel(previous)
    return previous


def ones(*size: int, **options: Any) -> Tensor:
    return torch.ones(size, **options)


# The registry


def test_the_reference_is_always_there_and_last() -> None:
    """Fastest first: the first kernel that takes a dtype is the fastest that does."""
    names = available_kernels()
    assert isinstance(names, tuple)
    assert names[-1] == REFERENCE
    assert len(set(names)) == len(names)


def test_available_kernels_are_those_of_the_registry_in_its_order() -> None:
    assert available_kernels() == tuple(k["name"] for k in _C.kernels() if k["available"])


@pytest.mark.parametrize("entry", _C.kernels(), ids=lambda entry: entry["name"])
def test_entries_of_the_registry(entry: Any) -> None:
    assert list(entry) == ["name", "isa", "device", "dtypes", "passes", "available"]
    assert (type(entry["name"]), type(entry["isa"])) == (str, str)
    assert entry["name"]
    assert entry["isa"]
    assert torch.device(entry["device"]).type == "cpu"
    assert isinstance(entry["dtypes"], tuple)
    assert len(entry["dtypes"]) > 0
    assert set(entry["dtypes"]) <= DTYPES
    assert isinstance(entry["passes"], tuple)
    assert set(entry["passes"]) <= set(PASSES)
    assert type(entry["available"]) is bool


def test_the_reference_runs_anywhere_on_every_dtype_and_pass() -> None:
    reference = _C.kernels()[-1]
    assert (reference["name"], reference["isa"]) == (REFERENCE, "any")
    assert reference["available"]
    assert set(reference["dtypes"]) == DTYPES
    assert reference["passes"] == PASSES


def test_what_the_registry_hands_out_is_a_copy() -> None:
    _C.kernels()[-1]["name"] = "changed"
    _C.kernels().clear()
    assert available_kernels()[-1] == REFERENCE


# The choice


@pytest.mark.parametrize("name", available_kernels())
def test_a_choice_holds_inside_the_block(name: str) -> None:
    assert selected_kernel() is None
    with use_kernel(name) as nothing:
        assert nothing is None
        assert selected_kernel() == name
    assert selected_kernel() is None


@pytest.mark.parametrize("inner", available_kernels())
@pytest.mark.parametrize("outer", available_kernels())
def test_choices_nest(outer: str, inner: str) -> None:
    with use_kernel(outer):
        with use_kernel(inner):
            assert selected_kernel() == inner
        assert selected_kernel() == outer
    assert selected_kernel() is None


def test_an_exception_ends_the_choice() -> None:
    with use_kernel(FASTEST):
        with pytest.raises(KeyError), use_kernel(REFERENCE):
            raise KeyError
        assert selected_kernel() == FASTEST
    assert selected_kernel() is None


def test_a_function_may_carry_its_choice() -> None:
    @use_kernel(REFERENCE)
    def inside() -> str | None:
        return selected_kernel()

    assert selected_kernel() is None
    assert [inside(), inside()] == [REFERENCE] * 2
    assert selected_kernel() is None


def test_a_choice_is_the_threads_own() -> None:
    """The main thread's choice does not affect a worker, nor the worker's the main thread."""
    chosen, asked = threading.Event(), threading.Event()

    def worker() -> list[str | None]:
        seen = [selected_kernel()]
        with use_kernel(REFERENCE):
            chosen.set()
            assert asked.wait(timeout=10)
            seen.append(selected_kernel())
        return [*seen, selected_kernel()]

    with ThreadPoolExecutor(1) as pool:
        with use_kernel(FASTEST):
            future = pool.submit(worker)
            assert chosen.wait(timeout=10)
            assert selected_kernel() == FASTEST
        assert selected_kernel() is None
        asked.set()
        assert future.result(timeout=10) == [None, REFERENCE, None]


def test_a_backward_inside_the_block_is_under_the_choice() -> None:
    seen = []
    input, weight = ones(1, 1, 3, 3, requires_grad=True), ones(1, 1, 2, 2)
    output = convgrad_ext.conv2d(input, weight)
    output.register_hook(lambda grad: seen.append(selected_kernel()))
    with use_kernel(REFERENCE):
        output.sum().backward(retain_graph=True)
    output.sum().backward()
    assert seen == [REFERENCE, None]


@pytest.mark.parametrize("name", ["fast", "", "Reference", "reference "])
def test_an_unknown_name_is_told_which_there_are(name: str) -> None:
    names = ", ".join(f"'{known}'" for known in available_kernels())
    with use_kernel(REFERENCE):
        with pytest.raises(ValueError, match="use_kernel") as refused, use_kernel(name):
            pytest.fail("the block ran")
        assert str(refused.value) == f"use_kernel: name must be one of {names}, but got '{name}'"
        assert selected_kernel() == REFERENCE


@pytest.mark.parametrize("name", [3, None, ("reference",)], ids=str)
def test_a_name_is_a_string(name: Any) -> None:
    with pytest.raises(TypeError, match="name"), use_kernel(name):
        pytest.fail("the block ran")
    assert selected_kernel() is None


# What runs


def passes(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Output, grad_input and grad_weight of small whole numbers, exact in every dtype."""
    generator = torch.Generator().manual_seed(0)

    def small(*size: int) -> Tensor:
        return torch.randint(0, 2, size, generator=generator).to(dtype)

    input, weight, grad_output = small(2, 3, 6, 5), small(4, 3, 3, 2), small(2, 4, 2, 2)
    return (
        convgrad_ext.conv2d(input, weight, stride=2),
        convgrad_ext.conv2d_input((2, 3, 6, 5), weight, grad_output, stride=2),
        convgrad_ext.conv2d_weight(input, (4, 3, 3, 2), grad_output, stride=2),
    )


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("dtype", sorted(DTYPES, key=str), ids=str)
def test_under_every_choice_every_dtype_is_served(dtype: torch.dtype) -> None:
    """By the chosen kernel, or by the first after it that takes the dtype."""
    wide = torch.complex128 if dtype.is_complex else torch.float64
    with use_kernel(REFERENCE):
        expected = passes(wide)
    for actual, exact in zip(passes(dtype), expected, strict=True):
        assert actual.dtype == dtype
        assert torch.equal(actual.to(wide), exact)


@pytest.mark.usefixtures("kernel")
def test_no_choice_serves_a_dtype_outside_the_list() -> None:
    with pytest.raises(NotImplementedError, match="not implemented for 'Bool'"):
        convgrad_ext.conv2d(ones(1, 1, 2, 2, dtype=torch.bool), ones(1, 1, 1, 1, dtype=torch.bool))


@pytest.mark.parametrize("count", [2, 8])
def test_threads_convolve_side_by_side(count: int) -> None:
    """Each thread has its own choice, and all have one result."""
    expected = passes(torch.float64)

    def convolve(index: int) -> bool:
        with use_kernel(available_kernels()[index % len(available_kernels())]):
            results = [passes(torch.float64) for _ in range(5)]
        return all(torch.equal(a, e) for r in results for a, e in zip(r, expected, strict=True))

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(convolve, range(count))) == [True] * count
