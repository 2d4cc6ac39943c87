"""Geometry at the edge of 64 bits: a right result or one clear error, nothing out of bounds.

The calls run in other processes: one that kills its process is a failed test. `make sanitize` runs
this file, slow tests included, on an extension that stops at the first access out of bounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from kernel_names import KERNELS

TESTS = Path(__file__).parent

# Operands are expanded views of a single one, which take no memory. A result counts the pairs that
# meet in it.
CALLS = {
    # As they were reported: two of them wrote past the heap, the third ended the process.
    "taps_2^60_rows_apart": (
        "conv2d(torch.ones(1).expand(1,4,2**60+1,1), torch.ones(1,4,2,1), dilation=(2**60,1))",
        [8.0],  # four channels, two taps
    ),
    "outputs_2^60_rows_apart": (
        "conv2d(torch.ones(1).expand(1,1,2**62,1), torch.ones(1,1,3,1), stride=(2**60,1), "
        "dilation=(2**10,1))",
        [3.0] * 4,  # of 2^62 rows, 0, 2^60, 2^61 and 3 * 2^60; three taps each
    ),
    "grad_weight_of_taps_2^59_rows_apart": (
        "conv2d_weight(torch.ones(1).expand(1,8,2**59+1,1), (1,8,2,1), "
        "torch.ones(1).expand(1,1,1,1), dilation=(2**59,1))",
        [1.0] * 16,  # a single output
    ),
    # Similar ones, which failed with "negative dimension" or because memory was too small.
    "taps_2^58_rows_apart": (
        "conv2d(ones(1, 4, 2**58 + 1, 1), ones(1, 4, 2, 1), dilation=(2**58, 1))",
        [8.0],
    ),
    "taps_2^59_columns_apart": (
        "conv2d(ones(1, 4, 1, 2**59 + 1), ones(1, 4, 1, 2), dilation=(1, 2**59))",
        [8.0],
    ),
    "taps_2^40_rows_apart": (
        "conv2d(ones(1, 4, 2**40 + 1, 1), ones(1, 4, 2, 1), dilation=(2**40, 1))",
        [8.0],
    ),
    "grad_weight_of_taps_2^40_rows_apart": (
        "conv2d_weight(ones(1, 8, 2**40 + 1, 1), (1, 8, 2, 1), ones(1, 1, 1, 1), "
        "dilation=(2**40, 1))",
        [1.0] * 16,
    ),
    "outputs_2^26_apart_on_both_axes": (
        "conv2d(ones(1, 3, 2**30 + 1, 2**29 + 1), ones(1, 3, 2, 2), stride=2**26, dilation=2**28)",
        [12.0] * (13 * 5),  # (2^30 - 2^28) / 2^26 + 1 and (2^29 - 2^28) / 2^26 + 1 outputs
    ),
    "grad_weight_of_outputs_2^58_columns_apart": (
        "conv2d_weight(ones(1, 2, 1, 2**58 + 1), (1, 2, 1, 1), ones(1, 1, 1, 2), stride=2**58)",
        [2.0] * 2,
    ),
    "grad_input_of_outputs_2^60_rows_apart": (
        "conv2d_input((1, 2, 2, 1), ones(3, 2, 1, 1), ones(1, 3, 2, 1), stride=(2**60, 1), "
        "padding=((0, 2**60 - 1), (0, 0)))",
        [3.0, 0.0] * 2,  # row 0 meets output 0 alone; row 1 meets none
    ),
    "grad_input_of_taps_2^60_rows_apart": (
        "conv2d_input((1, 2, 2, 1), ones(3, 2, 2, 1), ones(1, 3, 1, 1), dilation=(2**60, 1), "
        "padding=((0, 2**60 - 1), (0, 0)))",
        [3.0, 0.0] * 2,  # the second tap meets padding alone
    ),
    "taps_2^60_columns_apart_in_five_rows": (
        "conv2d(ones(1, 1, 5, 1), ones(1, 1, 5, 3), dilation=(1, 2**60), "
        "padding=((0, 0), (2**60, 2**60)))",
        [5.0],  # of each row the tap in the middle; a copy of all sources would exceed 64 bits
    ),
    "taps_2^60_columns_apart_in_two_images": (
        "conv2d(ones(9, 1, 1, 1), ones(1, 1, 1, 3), dilation=(1, 2**60), "
        "padding=((0, 0), (2**60, 2**60)))",
        [1.0] * 9,  # two rows of padded sources side by side would exceed 64 bits
    ),
    "taps_2^60_rows_apart_share_sources": (
        "conv2d_weight(ones(1, 1, 1, 1), (1, 1, 4, 1), ones(1, 1, 2, 1), stride=(2**60, 1), "
        "padding=((2**60 + 1, 2), (0, 0)))",
        [0.0, 1.0, 0.0, 0.0],  # the second output starts one row above the image
    ),
    "strides_of_a_single_row": (  # PyTorch allows any, because they read nothing
        "conv2d(torch.ones(2, 1, 1, 4).as_strided((2, 1, 1, 4), (4, 2**60 + 1, 2**61 + 1, 1)), "
        "ones(2, 1, 3, 3), padding=1)",
        [2.0, 3.0, 3.0, 2.0] * 4,  # two images, two filters; nine taps but for those in the padding
    ),
}
PROGRAM = """
import json, sys
import torch
import convgrad_ext
from convgrad_ext import conv2d, conv2d_input, conv2d_weight

def ones(*size):
    return torch.ones(1).expand(size)

torch.set_num_threads(1)
for kernel, call in json.loads(sys.argv[1]):
    with convgrad_ext.use_kernel(kernel):
        try:
            result = eval(call).flatten().tolist()
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
    print(json.dumps(result), flush=True)
"""


@cache
def results() -> dict[tuple[str, str], list[float] | str]:
    """By kernel and call: the error of the call, or the signal that ended its process."""
    left = [(kernel, call) for kernel in KERNELS for call, _ in CALLS.values()]
    found: dict[tuple[str, str], list[float] | str] = {}
    while left:
        run = python("-c", PROGRAM, json.dumps(left))
        for pair, line in zip(left, run.stdout.splitlines(), strict=False):
            found[pair] = json.loads(line)
        if run.returncode:
            found[next(pair for pair in left if pair not in found)] = end_of(run)
        left = [pair for pair in left if pair not in found]
    return found


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


def end_of(run: subprocess.CompletedProcess[str]) -> str:
    return f"ended the process with {run.returncode}: {run.stderr[-3000:]}"


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("call", "expected"), CALLS.values(), ids=CALLS)
def test_pairs_that_meet_are_counted(call: str, expected: list[float], kernel: str) -> None:
    assert results()[kernel, call] == expected


@pytest.mark.parametrize(
    ("first", "count"),
    [
        (0, 100),
        *(pytest.param(first, 400, marks=pytest.mark.slow) for first in range(100, 2100, 400)),
    ],
)
def test_random_geometry_has_a_right_answer_or_a_clear_refusal(first: int, count: int) -> None:
    run = python("extreme_geometries.py", "--first", str(first), "--count", str(count))
    lines = run.stdout.splitlines()
    faults = [line for line in lines if line.startswith("**")]
    assert not faults
    assert run.returncode == 0, f"{lines[-1]}\n{end_of(run)}"
