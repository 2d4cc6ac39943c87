"""The memory of a plan is the memory that the pass allocates, to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kernel_names import FAST
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from workspace_layers import (
    CHANNELS_LAST_LAYERS,
    LAYERS,
    WINOGRAD_LAYERS,
    parameters,
    planned,
    planned_bytes,
)

import convgrad_ext
from benchmarks.layers import Layer
from convgrad_ext import allow_winograd
from convgrad_ext.plans import PASSES

MEBIBYTE = 1 << 20


def call_of(layer: Layer, pass_name: str, layout: torch.memory_format) -> Callable[[], Tensor]:
    """The pass as a call without arguments, on zeros."""
    input, weight, grad_output = (
        torch.zeros(size).contiguous(memory_format=layout)
        for size in (layer.input_size, layer.weight_size, layer.output_size)
    )
    params = parameters(layer)
    return {
        "forward": lambda: convgrad_ext.conv2d(input, weight, None, *params),
        "grad_input": lambda: convgrad_ext.conv2d_input(input.shape, weight, grad_output, *params),
        "grad_weight": lambda: convgrad_ext.conv2d_weight(
            input, weight.shape, grad_output, *params
        ),
    }[pass_name]


def peak_bytes(call: Callable[[], Tensor], trace: Path) -> int:
    """The most that ATen's allocator has given to the call at a time, without its result."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    profiler.export_chrome_trace(str(trace))
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e["name"] == "[memory]"]
    total = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        total += event["args"]["Bytes"]
        peak = max(peak, total)
    return peak - result.numel() * result.element_size()


def check(
    layer: Layer,
    pass_name: str,
    trace: Path,
    layout: torch.memory_format = torch.contiguous_format,
) -> None:
    found = planned(layer, pass_name, torch.get_num_threads(), layout)
    assert all(plan.scratch_bytes <= MEBIBYTE for plan in found)
    expected = planned_bytes(found)
    allocated = peak_bytes(call_of(layer, pass_name, layout), trace)
    alone = len(found) == 1 or found[0].path != "rowwise"  # whose phases pack for themselves
    if len({plan.path for plan in found}) == 1 and alone:
        assert allocated == expected
    else:  # a path or phase may free its packed weight before the next one packs
        assert expected / 2 <= allocated <= expected


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kernel", FAST, indirect=True)
@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_pass_allocates_what_its_plan_says(name: str, pass_name: str, tmp_path: Path) -> None:
    check(LAYERS[name], pass_name, tmp_path / "trace.json")


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kernel", FAST, indirect=True)
@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("name", CHANNELS_LAST_LAYERS)
def test_so_does_a_pass_in_channels_last(name: str, pass_name: str, tmp_path: Path) -> None:
    layer = CHANNELS_LAST_LAYERS[name]
    check(layer, pass_name, tmp_path / "trace.json", torch.channels_last)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kernel", FAST, indirect=True)
@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("name", [*WINOGRAD_LAYERS, "first"])
def test_so_does_a_pass_with_winograd(name: str, pass_name: str, tmp_path: Path) -> None:
    """A phase of "first" takes Winograd, and the others do not."""
    with allow_winograd(True):
        check(LAYERS[name], pass_name, tmp_path / "trace.json")
