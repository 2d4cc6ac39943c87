"""The cache sizes that plans count with: results are right for any, and scratch stays small."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from expected import output_like, torch_gradients
from forced_winograd import forced_winograd
from kernel_names import FAST
from layer_cases import LAYERS, named
from torch import Tensor

import convgrad_ext
from convgrad_ext import _C, allow_winograd, plans, use_kernel
from convgrad_ext.cases import CASES, Case

KERNELS = pytest.mark.parametrize("kernel", FAST, indirect=True)
KIBIBYTE, MEBIBYTE = 1 << 10, 1 << 20
SIZES = {
    "the least that may be asked for": (8 * KIBIBYTE, 8 * KIBIBYTE),
    "a small core": (32 * KIBIBYTE, 256 * KIBIBYTE),
    "a large core": (48 * KIBIBYTE, 2 * MEBIBYTE),
}


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = _C.cache_sizes()
    yield
    _C.set_cache_sizes(before)


def passes(case: Case, *operands: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    input, weight, grad_output = operands
    return (
        convgrad_ext.conv2d(input, weight, **case.params),
        convgrad_ext.conv2d_input(case.input_size, weight, grad_output, **case.params),
        convgrad_ext.conv2d_weight(input, case.weight_size, grad_output, **case.params),
    )


def whole_numbers(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Input, weight and grad_output in -2..2."""
    generator = torch.Generator().manual_seed(0)
    sizes = [t.shape for t in case.tensors(torch.float32)[:2]]
    sizes.append(case.torch_conv2d(*case.tensors(torch.float32)).shape)
    input, weight, grad_output = (
        torch.randint(-2, 3, size, generator=generator).float() for size in sizes
    )
    return input, weight, grad_output


@KERNELS
@pytest.mark.usefixtures("kernel", "poisoned")
@pytest.mark.parametrize("winograd", [False, True], ids=["", "winograd"])
@pytest.mark.parametrize("case", [*CASES, *LAYERS], ids=str)
def test_whole_numbers_are_exact_for_any_size(case: Case, winograd: bool) -> None:
    input, weight, grad_output = whole_numbers(case)
    bias = torch.zeros(case.channels[1])
    exact = (
        case.torch_conv2d(input, weight),
        *torch_gradients(case, input, weight, bias, grad_output=grad_output)[:2],
    )
    for sizes in SIZES.values():
        _C.set_cache_sizes(sizes)
        with forced_winograd(winograd):
            results = passes(case, input, weight, grad_output)
        assert all(map(torch.equal, results, exact)), sizes


@KERNELS
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_forward_and_grad_input_have_the_same_digits(case: Case, dtype: torch.dtype) -> None:
    """How their sums are cut into chains depends on the reduction alone (common/chains.h)."""
    input, weight, bias = case.tensors(dtype)
    operands = input, weight, output_like(case, input, weight, bias)
    results = []
    for sizes in SIZES.values():
        _C.set_cache_sizes(sizes)
        results.append(passes(case, *operands)[:2])
    for others in results[1:]:
        assert all(map(torch.equal, results[0], others))


# What a thread needs, whatever the caches: a row of pixels and its sums, the maps of a vector of
# groups, a panel, the padded sources of a row, or the transformed tiles of a register tile, which
# are 16 numbers for each output tile.
LEAST_SCRATCH = {
    "direct": 64,
    "depthwise": 32,
    "pixelwise": 8,
    "rowwise": 64,
    "winograd": 192,
    "zeros": 0,
}  # in KiB


@KERNELS
@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("winograd", [False, True], ids=["", "winograd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_scratch_fits_the_cache_or_is_what_a_shape_needs(
    case: Case, dtype: torch.dtype, winograd: bool
) -> None:
    input, weight, _ = case.tensors(dtype)
    for sizes in SIZES.values():
        _C.set_cache_sizes(sizes)
        with allow_winograd(winograd):
            found = plans(input, weight, **case.params)
        for plan in found:
            least = LEAST_SCRATCH[plan.path] * KIBIBYTE
            assert plan.scratch_bytes <= max(least, min(sizes[1], MEBIBYTE)), (sizes, plan)


@KERNELS
@pytest.mark.usefixtures("kernel")
def test_blocks_follow_the_size() -> None:
    input, weight, _ = named("3x3").tensors(torch.float32)
    scratch = []
    for sizes in SIZES.values():
        _C.set_cache_sizes(sizes)
        scratch.append(plans(input, weight, padding=1)[0].scratch_bytes)
    assert scratch[0] < scratch[1] <= scratch[2]


@pytest.mark.parametrize(
    ("l1d", "source"), [(32 * KIBIBYTE, "strips"), (48 * KIBIBYTE, "the tensor")]
)
def test_channels_that_crowd_l1d_are_copied(l1d: int, source: str) -> None:
    """Channels 4096 bytes apart share a set of 8 or 12 lines, of which six rows need six."""
    _C.set_cache_sizes((l1d, MEBIBYTE))
    with use_kernel("baseline"):
        grad_weight = plans(torch.empty(1, 64, 32, 32), torch.empty(64, 64, 3, 3), padding=1)[-1]
    assert grad_weight.blocking["tile, rows x vectors"] == "6 x 2"
    assert grad_weight.blocking["source"] == source


def test_sizes_are_returned_and_restored() -> None:
    first = _C.cache_sizes()
    assert _C.set_cache_sizes((65536, 1 << 19)) == first
    assert _C.cache_sizes() == (65536, 1 << 19)
    assert _C.set_cache_sizes(None) == (65536, 1 << 19)
    assert _C.cache_sizes() == first


# The environment


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A new interpreter with these variables alone of ours."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CONVGRAD_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


PRINT_SIZES = "import convgrad_ext._C as C; print(*C.cache_sizes())"


@pytest.mark.parametrize(
    ("variable", "sizes"),
    [("48K,2M", "49152 2097152"), ("8K,1024M", "8192 1073741824"), ("1M,8K", "1048576 8192")],
)
def test_the_environment_fixes_the_sizes(variable: str, sizes: str) -> None:
    run = python(PRINT_SIZES, CONVGRAD_CACHE=variable)
    assert run.stdout.strip() == sizes, run.stderr


def test_an_empty_variable_is_none() -> None:
    assert python(PRINT_SIZES, CONVGRAD_CACHE="").stdout == python(PRINT_SIZES).stdout


@pytest.mark.parametrize(
    "variable",
    ["48K", "0K,1M", "x,y", "48k,1m", "48K,2M,8M", "7K,1M", "48K,1025M"],
)
def test_another_variable_is_refused_by_the_import(variable: str) -> None:
    run = python("import convgrad_ext", CONVGRAD_CACHE=variable)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "ValueError: CONVGRAD_CACHE must be the sizes of L1d and L2 from 8K to 1024M, as in "
        f"'48K,2M', but got '{variable}'"
    )


TRAIN = """
import torch, convgrad_ext
with convgrad_ext.use_kernel("baseline"):
    input = torch.ones(1, 4, 6, 6, requires_grad=True)
    weight = torch.ones(8, 4, 3, 3, requires_grad=True)
    convgrad_ext.conv2d(input, weight, padding=1).sum().backward()
"""
LINE = (
    "N=1 C_in=4 C_out=8 groups=1 input=6 x 6 kernel=3 x 3 stride=1 x 1: "
    "direct (Winograd is not allowed: its error is another)"
)


def test_the_log_has_a_line_a_pass() -> None:
    run = python(TRAIN, CONVGRAD_LOG="plan")
    assert run.stdout == ""
    assert run.stderr.splitlines() == [
        f"convgrad_ext: {name} on baseline, {LINE}"
        for name in ("forward", "grad_input", "grad_weight")
    ]


@pytest.mark.parametrize("variables", [{}, {"CONVGRAD_LOG": ""}], ids=["not set", "empty"])
def test_nothing_is_logged_otherwise(variables: dict[str, str]) -> None:
    assert python(TRAIN, **variables).stderr == ""


def test_another_log_is_refused_by_the_import() -> None:
    run = python("import convgrad_ext", CONVGRAD_LOG="plans")
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "ValueError: CONVGRAD_LOG must be 'plan', but got 'plans'"
    )
