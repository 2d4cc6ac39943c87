"""What convgrad_ext.plans says of CUDA tensors: each pass's kernel, its tile, and the reason."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor

from convgrad_ext._C import Walk
from convgrad_ext.triton import tiles
from convgrad_ext.triton.boxes import Operand
from convgrad_ext.triton.gather import Gather, launch_of
from convgrad_ext.triton.launches import Launch
from convgrad_ext.triton.reduction import Reduction, launches_of
from convgrad_ext.triton.shapes import Convolution, Correlation

BLOCKS = {
    "M": "channels",
    "P": "pixels",
    "N": "images",
    "H": "rows",
    "W": "pixels of a row",
    "C": "steps of the sum",
    "Q": "columns",
}


def plans_of(
    conv: Convolution, input: Tensor, weight: Tensor, output: Tensor
) -> dict[str, dict[str, Any]]:
    """By pass, the fields of a Plan but its name; the elements are not read."""
    x, w, y = map(Operand.of, (input, weight, output))
    precision = tiles.precision_of(input.dtype)
    device = precision, tiles.architecture_of(input.device)
    forward = Gather(conv, True, x, w, y, False, *device)
    grad_input = Gather(conv, False, y, w, x, False, *device)
    reduction = Reduction(conv, x, y, w, *device)
    sums = launches_of(reduction)
    size = prod(sums.size) * sums.dtype.itemsize
    forms = Correlation.forward(conv), Correlation.grad_input(conv)
    return {
        "forward": described(conv, launch_of(forward), forms[0]),
        "grad_input": described(conv, launch_of(grad_input), forms[1]),
        "grad_weight": described(conv, sums.sum, forms[0]) | {"packed_bytes": size},
    }


def described(conv: Convolution, launch: Launch, form: Correlation) -> dict[str, Any]:
    arguments = launch.arguments
    blocks = {
        f"{name} of a tile": str(arguments[f"BLOCK_{axis}"])
        for axis, name in BLOCKS.items()
        if f"BLOCK_{axis}" in arguments
    }
    return {
        "path": "depthwise" if tiles.is_depthwise(conv) else "product",
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
