"""Layers that take much memory beyond their operands, each in a way of its own."""

from __future__ import annotations

import torch

from benchmarks.layers import Layer
from convgrad_ext import plans
from convgrad_ext.plans import Plan


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
    "depthwise_map": layer("copies of maps", 2, (99, 99), (9, 9), 5, groups=99),
    "large_kernel": layer("961 taps", 1, (64, 64), (32, 32), 31, groups=64),
    "large_image": layer("tens of thousands of tiles", 1, (3, 8), (512, 512), 5),
    "taps_for_each_border_pixel": layer("440 sets of them", 1, (16, 16), (64, 64), 21),
    "wide_image": layer("a row is more than a strip holds", 1, (8, 8), (4, 20000), 3),
    "blocks_of_input_channels": layer("of equal size", 1, (512, 512), (7, 7), 3),
    "channels_not_multiple_of_vector": layer("lanes of zeros", 2, (37, 67), (57, 43), 3),
    "wide_rows_of_few_filters": layer("sums of a row", 1, (2, 8), (4, 64992), 1),
    "taps_of_a_column_span_the_image": tall_layer("4001 rows an output", 2000, 8, (4001, 256)),
    "taps_span_the_image": layer(
        "one channel is 15 MiB", 1, (4, 4), (2001, 2001), 3, dilation=999, padding=0
    ),
    "taps_span_the_padded_image": layer(
        "a band reads rows 999 apart", 1, (4, 4), (2001, 257), 3, dilation=999
    ),
}
CHANNELS_LAST_LAYERS = {
    "dense": layer("a band has its sums", 2, (64, 64), (56, 56), 3),
    "crowded": layer("a strip of several tiles", 2, (512, 64), (28, 28), 1),
    "depthwise": layer("packed taps for the lanes", 2, (99, 99), (56, 56), 5, groups=99),
    "filters": layer("sums of a row", 2, (48, 96), (28, 28), 3, groups=48),
    "groups": layer("packed taps for each channel of a group", 2, (60, 60), (28, 28), 3, groups=30),
    "groups_strided": layer("the same of phases", 2, (64, 64), (29, 29), 3, groups=32, stride=2),
    "groups_of_a_column": Layer(
        "", "pixels of a row are adjacent too", 2, 32, 29, 5, 32, 3, 5, 2, 1, 0, 1, 16
    ),
    "patches": layer("rows of a patch are pixels", 2, (3, 96), (56, 56), 4, stride=4, padding=0),
}
WINOGRAD_LAYERS = (
    "dense",
    "large_weight",
    "sums_wait",
    "blocks_of_input_channels",
    "channels_not_multiple_of_vector",
)


def parameters(layer: Layer) -> tuple[int, tuple[int, int], int, int]:
    """stride, padding, dilation and groups."""
    return layer.stride, (layer.padding_h, layer.padding_w), layer.dilation, layer.groups


def planned(
    layer: Layer,
    pass_name: str,
    threads: int = 1,
    layout: torch.memory_format = torch.contiguous_format,
) -> list[Plan]:
    tensors = [
        torch.empty(size, memory_format=layout) for size in (layer.input_size, layer.weight_size)
    ]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = plans(*tensors, None, *parameters(layer))
    finally:
        torch.set_num_threads(before)
    return [plan for plan in found if plan.pass_name == pass_name]


def planned_bytes(found: list[Plan], threads: int = 1) -> int:
    """Phases have their packed weights together, and one scratch after the other."""
    packed = sum(plan.phases * plan.packed_bytes for plan in found)
    return packed + threads * max(plan.scratch_bytes for plan in found)
