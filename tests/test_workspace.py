"""The memory that one call takes beyond its operands and its result."""

from __future__ import annotations

from math import ceil

import pytest
from stand_ins import FLOAT

from benchmarks import machine, measure
from benchmarks.layers import Layer
from benchmarks.sides import WINOGRAD, Job, plain
from convgrad_ext import available_kernels

pytestmark = pytest.mark.skipif(
    not (measure.PEAK_RESET.exists() and machine.can_be_pinned()),
    reason="this system does not say what is resident",
)

MEBIBYTE = 1 << 20
LANES = {"avx512": 16, "avx2": 8, "baseline": 4}  # of float32 in a vector
FAST = [name for name in available_kernels() if name in LANES]
PASSES = ("forward", "grad_input", "grad_weight")

# The system counts resident memory to a quarter of a MiB.
SMALL_CHANGE = MEBIBYTE // 4


def layer(
    reason: str, N: int, channels: tuple[int, int], image: tuple[int, int], K: int, **params: int
) -> Layer:
    """A square kernel, with the padding that keeps the image's size at stride 1."""
    C_in, C_out = channels
    dilation = params.get("dilation", 1)
    padding = params.get("padding", dilation * (K - 1) // 2)
    stride, groups = params.get("stride", 1), params.get("groups", 1)
    sizes = (N, C_in, *image, C_out, K, K)
    return Layer("", reason, *sizes, stride, padding, padding, dilation, groups)


def tall_layer(reason: str, dilation: int, channels: int, image: tuple[int, int]) -> Layer:
    """Three taps, one below the other."""
    return Layer("", reason, 1, channels, *image, channels, 3, 1, 1, 0, 0, dilation, 1)


LAYERS = {
    "dense": layer("a band has its sums and its strip", 2, (64, 64), (56, 56), 3),
    "large_weight": layer("the packed weight outweighs all else", 1, (256, 256), (14, 14), 3),
    "first": layer("few channels, stride 2: phases", 1, (3, 64), (224, 224), 7, stride=2),
    "sums_wait": layer("sums of all patches of an item", 4, (256, 256), (56, 56), 3),
    "pointwise": layer("a matrix product", 2, (256, 256), (28, 28), 1),
    "dilated": layer("a strip is the whole image", 2, (64, 64), (33, 33), 3, dilation=12),
    "depthwise": layer("lanes for 96 groups of one", 2, (96, 96), (56, 56), 7, groups=96),
    "large_kernel": layer("961 taps", 1, (64, 64), (32, 32), 31, groups=64),
    "large_image": layer("tens of thousands of tiles", 1, (3, 8), (512, 512), 5),
    "taps_for_each_border_pixel": layer("440 sets of them", 1, (16, 16), (64, 64), 21),
    "wide_image": layer("a row is more than a strip holds", 1, (8, 8), (4, 20000), 3),
    "blocks_of_input_channels": layer("of equal size", 1, (512, 512), (7, 7), 3),
    "channels_not_multiple_of_vector": layer("lanes of zeros", 2, (37, 67), (57, 43), 3),
    "taps_of_a_column_span_the_image": tall_layer("4001 rows an output", 2000, 8, (4001, 256)),
    "taps_span_the_image": layer(
        "one channel is 15 MiB", 1, (4, 4), (2001, 2001), 3, dilation=999, padding=0
    ),
    "taps_span_the_padded_image": layer(
        "a band reads rows 999 apart", 1, (4, 4), (2001, 257), 3, dilation=999
    ),
}
WINOGRAD_LAYERS = (
    "dense",
    "large_weight",
    "sums_wait",
    "blocks_of_input_channels",
    "channels_not_multiple_of_vector",
)


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
