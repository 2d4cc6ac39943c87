"""What convgrad_ext.plans says of CUDA tensors: each pass's kernel, its tile, and the reason."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor

from convgrad_ext._C import Walk
from convgrad_ext.triton import calls, tiles
from convgrad_ext.triton.launches import Launch
from convgrad_ext.triton.shapes import Correlation

BLOCKS = {
    "M": "channels",
    "P": "pixels",
    "N": "images",
    "H": "rows",
    "W": "pixels of a row",
    "C": "steps of the sum",
    "Q": "columns",
}

PATHS = {tiles.FEW_CHANNELS: "depthwise", tiles.IN_BOXES: "boxes"}


def plans_of(
    params: calls.Params, input: Tensor, weight: Tensor, output: Tensor
) -> dict[str, dict[str, Any]]:
    """By pass, the fields of a Plan but its name; the elements are not read."""
    conv = calls.convolution(input.shape, weight.shape, params)
    kind = calls.kind_of(input)
    x, w, y = map(calls.layout_of, (input, weight, output))
    forward = calls.launch_of(kind, x, w, y, params, is_forward=True, has_bias=False)
    grad_input = calls.launch_of(kind, y, w, x, params, is_forward=False, has_bias=False)
    sums = calls.launches_of(kind, x, y, w, params)
    size = prod(sums.size) * sums.dtype.itemsize
    forms = Correlation.forward(conv), Correlation.grad_input(conv)
    return {
        "forward": described(forward, forms[0]),
        "grad_input": described(grad_input, forms[1]),
        "grad_weight": described(sums.sum, forms[0]) | {"packed_bytes": size},
    }


def described(launch: Launch, form: Correlation) -> dict[str, Any]:
    arguments = launch.arguments
    blocks = {
        f"{name} of a tile": str(arguments[f"BLOCK_{axis}"])
        for axis, name in BLOCKS.items()
        if f"BLOCK_{axis}" in arguments
    }
    return {
        "path": PATHS.get(launch.reason, "product"),
        "reason": launch.reason,
        "phases": len(form.phases),
        "blocking": {
            **blocks,
            "programs": " x ".join(map(str, launch.grid)),
            **{
                f"{what} of a split": str(arguments[f"{what}_of_split"])
                for what in ("pixels", "boxes")
                if f"{what}_of_split" in arguments
            },
            "warps": str(arguments["num_warps"]),
        },
        "packed_bytes": 0,
        "scratch_bytes": 0,
        "padded_share": padded_share(form),
    }


def padded_share(form: Correlation) -> float:
    """Of all pairs of a destination pixel and a tap, those that meet padding."""
    pairs = sum(h.D * h.T * w.D * w.T for h, w in form.phases)
    met = sum(meetings(h) * meetings(w) for h, w in form.phases)
    return 1 - met / pairs if pairs else 0.0


def meetings(walk: Walk) -> int:
    return sum(hi - lo for lo, hi in map(walk.taps_of, range(walk.D)))
