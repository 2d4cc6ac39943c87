"""The memory that one call takes beyond its operands and its result."""

from __future__ import annotations

from math import ceil

import pytest
from stand_ins import FLOAT
from workspace_layers import LAYERS, WINOGRAD_LAYERS, planned, planned_bytes

from benchmarks import measure
from benchmarks.layers import Layer
from benchmarks.sides import WINOGRAD, Job, plain
from convgrad_ext import available_kernels, use_kernel

pytestmark = pytest.mark.skipif(
    not measure.PEAK_RESET.exists(),
    reason="this system does not say what is resident",
)

MEBIBYTE = 1 << 20
LANES = {"avx512": 16, "avx2": 8, "baseline": 4}  # of float32 in a vector
FAST = [name for name in available_kernels() if name in LANES]
PASSES = ("forward", "grad_input", "grad_weight")

# The system counts resident memory to a quarter of a MiB.
SMALL_CHANGE = MEBIBYTE // 4


def packed_weight(layer: Layer, pass_name: str, lanes: int) -> int:
    """Bytes of the weight, the channels in the lanes rounded up to the vector."""
    C_in, C_out = layer.C_in // layer.groups, layer.C_out // layer.groups
    if pass_name == "grad_input":
        C_in = ceil(C_in / lanes) * lanes
    else:
        C_out = ceil(C_out / lanes) * lanes
    return 4 * layer.groups * C_in * C_out * layer.K_h * layer.K_w


def beyond_the_packed_weight(layer: Layer, pass_name: str, kernel_name: str, threads: int) -> int:
    """Bytes; grad_weight's sums are the weight, packed alike.

    With Winograd the packed weight has 16 numbers for the 9 taps of a 3x3 kernel.
    """
    extra = measure.extra_bytes(Job(layer, pass_name, kernel_name, FLOAT, threads))
    assert extra is not None, "the process did not survive"
    packed = packed_weight(layer, pass_name, LANES[plain(kernel_name)])
    return extra - (packed if kernel_name == plain(kernel_name) else packed * 16 // 9)


@pytest.mark.parametrize("kernel_name", FAST)
@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize(
    ("layer", "threads"),
    [
        *(pytest.param(layer, 1, id=name) for name, layer in LAYERS.items()),
        *(pytest.param(LAYERS[name], 2, id=f"{name}-2_threads") for name in ("dense", "first")),
    ],
)
def test_a_call_takes_the_packed_weight_and_a_mebibyte_a_thread(
    layer: Layer, threads: int, pass_name: str, kernel_name: str
) -> None:
    beyond = beyond_the_packed_weight(layer, pass_name, kernel_name, threads)
    assert beyond <= threads * MEBIBYTE + SMALL_CHANGE


@pytest.mark.parametrize("kernel_name", FAST)
@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("name", WINOGRAD_LAYERS)
def test_so_does_a_call_with_winograd(name: str, pass_name: str, kernel_name: str) -> None:
    beyond = beyond_the_packed_weight(LAYERS[name], pass_name, kernel_name + WINOGRAD, 1)
    assert beyond <= MEBIBYTE + SMALL_CHANGE


@pytest.mark.parametrize("kernel_name", FAST)
@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["dense", "first", "sums_wait"])
def test_the_plan_has_room_for_what_is_resident(
    name: str, threads: int, pass_name: str, kernel_name: str
) -> None:
    """tests/test_plan_memory.py has the bytes of the first thread; here every thread counts.

    On a busy machine, threads may run one after the other, and so does their memory.
    """
    with use_kernel(kernel_name):
        plan = planned(LAYERS[name], pass_name, threads)
        one, all_threads = (planned_bytes(plan, count) for count in (1, threads))
    extra = measure.extra_bytes(Job(LAYERS[name], pass_name, kernel_name, FLOAT, threads))
    assert extra is not None, "the process did not survive"
    assert one / 2 - SMALL_CHANGE <= extra <= all_threads + SMALL_CHANGE
