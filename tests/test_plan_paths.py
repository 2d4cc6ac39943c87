"""The path that each pass takes: pinned for the common layers, and by rules for any convolution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from exact import output_extents, pair
from hypothesis import assume, given, settings
from pinned_paths import DEFAULT, KERNELS, WINOGRAD, Pinned
from strategies import cases
from torch import Tensor

import convgrad_ext
from benchmarks.layers import Layer, load_layers
from convgrad_ext import _C, allow_winograd, plans, use_kernel
from convgrad_ext.cases import Case
from convgrad_ext.info import path_of
from convgrad_ext.plans import PASSES, Plan

LAYERS = {layer.name: layer for layer in load_layers()}
HERE = [kernel for kernel in KERNELS if kernel.split()[0] in convgrad_ext.available_kernels()]


@pytest.fixture(autouse=True)
def _usual_caches() -> Iterator[None]:
    """Those of most processors: a slice of pixels or the transforms of an item have to fit."""
    before = _C.set_cache_sizes((32 << 10, 1 << 20))
    yield
    _C.set_cache_sizes(before)


def paths(found: tuple[Plan, ...]) -> dict[str, str]:
    """Of each pass, as tests/pinned_paths.py writes them."""
    return {name: path_of([p for p in found if p.pass_name == name]) for name in PASSES}


def plans_of(
    layer: Layer, kernel: str, winograd: bool = False, N: int = 1, C_out: int | None = None
) -> tuple[Plan, ...]:
    isa, dtype = kernel.split()
    weight_size = (C_out or layer.C_out, *layer.weight_size[1:])
    input, weight = (
        torch.empty(size, dtype=getattr(torch, dtype))
        for size in ((N, *layer.input_size[1:]), weight_size)
    )
    padding = (layer.padding_h, layer.padding_w)
    with use_kernel(isa), allow_winograd(winograd):
        return plans(input, weight, None, layer.stride, padding, layer.dilation, layer.groups)


def pinned(lines: tuple[Pinned, ...], name: str, kernel: str) -> list[Pinned]:
    return [line for line in lines if name in line.layers.split() and kernel in line.kernels]


@pytest.mark.parametrize("name", LAYERS)
def test_the_table_has_each_common_layer_once(name: str) -> None:
    for kernel in KERNELS:
        assert len(pinned(DEFAULT, name, kernel)) == 1
        assert len(pinned(WINOGRAD, name, kernel)) <= 1


@pytest.mark.parametrize("kernel", HERE)
@pytest.mark.parametrize("name", LAYERS)
def test_the_path_of_each_pass(name: str, kernel: str) -> None:
    (line,) = pinned(DEFAULT, name, kernel)
    assert paths(plans_of(LAYERS[name], kernel)) == line.paths, line.reason


@pytest.mark.parametrize("kernel", HERE)
@pytest.mark.parametrize("name", LAYERS)
def test_the_path_of_each_pass_where_winograd_is_allowed(name: str, kernel: str) -> None:
    (line,) = pinned(WINOGRAD, name, kernel) or pinned(DEFAULT, name, kernel)
    assert paths(plans_of(LAYERS[name], kernel, winograd=True)) == line.paths, line.reason


@pytest.mark.parametrize("kernel", HERE)
@pytest.mark.parametrize("threads", [2, 7])
@pytest.mark.parametrize(
    "name", ["r50.conv1", "r50.res2", "r50.res3a_s2", "r50.res5_up", "mbn.dw@14"]
)
def test_the_plan_does_not_depend_on_the_threads(name: str, threads: int, kernel: str) -> None:
    """Neither the path nor how a sum is cut: results are bitwise the same for any number."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = plans_of(LAYERS[name], kernel, winograd=True, N=8)
        torch.set_num_threads(threads)
        together = plans_of(LAYERS[name], kernel, winograd=True, N=8)
    finally:
        torch.set_num_threads(before)
    assert list(map(without_items, together)) == list(map(without_items, alone))


def without_items(plan: Plan) -> Plan:
    """Threads decide how items share out images and channels, which changes no digit."""
    if plan.path not in ("direct", "pixelwise", "rowwise"):
        return plan
    blocking = {
        name: v
        for name, v in plan.blocking.items()
        if " of an item" not in name and name != "band, rows"
    }
    packed = 0 if plan.pass_name == "grad_weight" else plan.packed_bytes
    return replace(plan, blocking=blocking, packed_bytes=packed, scratch_bytes=0)


@pytest.mark.parametrize("kernel", HERE)
@pytest.mark.parametrize("name", LAYERS)
def test_the_path_does_not_depend_on_the_batch(name: str, kernel: str) -> None:
    """A batch is bitwise its images. Rowwise sums are those of the direct path."""
    layer = LAYERS[name]

    def cut_of_sums(winograd: bool, N: int) -> list[tuple[str, str]]:
        found = paths(plans_of(layer, kernel, winograd, N))
        return [(name, path.replace("rowwise", "direct")) for name, path in found.items()]

    for winograd in (False, True):
        assert cut_of_sums(winograd, N=1) == cut_of_sums(winograd, N=3)


@pytest.mark.parametrize("kernel", HERE)
@pytest.mark.parametrize("name", [n for n, layer in LAYERS.items() if layer.kind == "dense3x3"])
def test_winograd_does_not_depend_on_the_filters(name: str, kernel: str) -> None:
    """The digits of a filter are the same whatever other filters there are."""

    def winograd(**filters: int) -> dict[str, bool]:
        found = paths(plans_of(layer, kernel, winograd=True, **filters))
        return {name: "winograd" in path for name, path in found.items()}

    layer = LAYERS[name]
    for C_out in (3, 32, 200):
        assert winograd(C_out=C_out) == winograd()


# By rules: what a path needs, counted from the definition.


def taps_of_phases(case: Case, axis: int) -> list[int]:
    """For each input i < stride, the taps k with i + padding - k*dilation divisible by the stride.

    The stride of an axis with one output has no effect: it counts as 1.
    """
    stride = pair(case.stride)[axis] if output_extents(case)[axis] > 1 else 1
    dilation, padding, K = pair(case.dilation)[axis], case.sides[2 * axis], case.kernel[axis]
    return [
        sum((i + padding - k * dilation) % stride == 0 for k in range(K))
        for i in range(min(stride, case.image[axis]))
    ]


@given(case=cases())
@settings(max_examples=300)
def test_each_path_has_the_taps_that_it_needs(case: Case) -> None:
    assume(case.N > 0)
    input, weight, _ = case.tensors(torch.float32)
    with allow_winograd(True):
        found = plans(input, weight, **case.params)
    gradients = [plan for plan in found if plan.pass_name == "grad_input"]
    taps = [(h, w) for h in taps_of_phases(case, 0) for w in taps_of_phases(case, 1)]
    counts: Counter[str] = Counter()
    for plan in gradients:
        counts[plan.path] += plan.phases
    assert counts.total() == len(taps)
    assert counts["zeros"] == sum(h * w == 0 for h, w in taps)
    assert counts["pixelwise"] <= sum(h * w == 1 for h, w in taps)
    assert counts["winograd"] <= taps.count((3, 3))
    forward = next(plan for plan in found if plan.pass_name == "forward")
    assert forward.path != "pixelwise" or case.kernel == (1, 1)
    assert forward.path != "winograd" or case.kernel == (3, 3)


def reason(name: str, pass_name: str, winograd: bool) -> str:
    found = plans_of(LAYERS[name], HERE[-1], winograd)
    return next(plan for plan in found if plan.pass_name == pass_name).reason


@pytest.mark.parametrize(
    ("name", "pass_name", "winograd", "words"),
    [
        ("r50.res2", "forward", False, "Winograd is not allowed"),
        ("r50.res2", "forward", True, "saves more multiplications than its transforms cost"),
        ("b1.tiny", "forward", True, "its transforms cost more than they save"),
        ("alex.2", "forward", True, "needs three by three taps and stride 1"),
        ("alex.2", "grad_weight", True, "needs three by three taps and stride 1"),
        ("r50.res5_up", "forward", False, "pixels meet one tap"),
        ("vit.p16", "grad_input", False, "lanes are the pixels of a patch"),
    ],
)
def test_the_reason_is_given(name: str, pass_name: str, winograd: bool, words: str) -> None:
    assert words in reason(name, pass_name, winograd)


def grad_input_of_patches(input: Tensor, weight: Tensor) -> Plan:
    return next(p for p in plans(input, weight, stride=2) if p.pass_name == "grad_input")


@pytest.mark.usefixtures("kernel")
def test_when_the_pixels_of_a_patch_are_lanes() -> None:
    image, weight = torch.empty(2, 96, 14, 14), torch.empty(192, 96, 2, 2)
    if grad_input_of_patches(image, weight).path == "reference":
        return
    words = "lanes are the pixels of a patch"
    last = torch.channels_last
    assert words in grad_input_of_patches(image, weight).reason
    others = {
        "few filters": (image, weight[:15]),
        "columns left over": (torch.empty(2, 96, 14, 15), weight),
        "few lanes": (image[:, :3], weight[:, :3].contiguous()),
        "a weight with gaps": (image, weight.to(memory_format=last)),
        "channels are adjacent": (image.to(memory_format=last), weight),
    }
    for why, (x, w) in others.items():
        assert words not in grad_input_of_patches(x, w).reason, why


def forward_of_1x1(C_in: int, memory_format: torch.memory_format) -> Plan:
    input = torch.empty(1, C_in, 32, 32).contiguous(memory_format=memory_format)
    return plans(input, torch.empty(64, C_in, 1, 1))[0]


@pytest.mark.usefixtures("kernel")
def test_what_keeps_a_1x1_from_pixels_as_lanes() -> None:
    name = torch.contiguous_format
    if forward_of_1x1(64, name).path == "reference":
        return
    assert forward_of_1x1(64, name).path == "pixelwise"
    last = forward_of_1x1(64, torch.channels_last)
    assert (last.path, last.reason.partition(":")[0]) == ("direct", "channels_last")
    long = forward_of_1x1(40000, name)
    assert (long.path, long.reason) == (
        "direct",
        "a slice of pixels would be larger than the cache",
    )
