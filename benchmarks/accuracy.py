"""How near the results of half precision are to the exact ones: ours, and F.conv2d's beside them.

    python benchmarks/accuracy.py
    python benchmarks/accuracy.py --classes depthwise,strided --output accuracy.md
    CONVGRAD_ISA=avx2 python benchmarks/accuracy.py --winograd

The exact result is computed in float64 from the same operands. An element is right if it is the
number of its dtype that is nearest to the exact one. Its error is given in roundings: half the
distance from one number to the next, at the element or, if it is smaller, at the typical size (the
root of the mean square) of all. A row has the worst of all layers: of the quick set, or of the
named classes. --winograd allows it on our side; layers in pairs of bfloat16 do without it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as python -m would

import convgrad_ext
from benchmarks import Parser, exit_code_of, names
from benchmarks.layers import DTYPES, Form, Layer, class_names, load_layers, make_operands
from benchmarks.sides import ALL, OURS, TORCH
from convgrad_ext.info import processor_name

HALVES = ("float16", "bfloat16")
HEAD = ("dtype", "pass", "ours, right", "largest error", "F.conv2d, right", "largest error")


def nearness(result: Tensor, exact: Tensor) -> tuple[float, float]:
    """The share of right elements, and the largest error in roundings."""
    right = (result == exact.to(result.dtype)).double().mean().item()
    size = exact.abs().clamp(min=exact.square().mean().sqrt().item())
    roundings = (result.double() - exact).abs() / (torch.finfo(result.dtype).eps / 2 * size)
    return right, roundings.max().item()


def worst(found: Sequence[tuple[float, float]]) -> list[str]:
    rights, errors = zip(*found, strict=True)
    return [f"{min(rights):.1%}", f"{max(errors):.2f}"]


def row(dtype_name: str, pass_name: str, layers: Sequence[Layer]) -> list[str]:
    ours, theirs = [], []
    for layer in track(layers, f"{dtype_name} {pass_name}", console=Console(stderr=True)):
        x = make_operands(layer, Form(DTYPES[dtype_name], torch.contiguous_format))
        exact = TORCH.single[pass_name](x.double())
        ours.append(nearness(OURS.single[pass_name](x), exact))
        theirs.append(nearness(TORCH.single[pass_name](x), exact))
    return [dtype_name, pass_name, *worst(ours), *worst(theirs)]


def table(layers: Sequence[Layer]) -> str:
    rule = ["---", "---", *["---:"] * (len(HEAD) - 2)]
    rows = [row(dtype, pass_name, layers) for dtype in HALVES for pass_name in ALL]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEAD, rule, *rows))


def main(argv: list[str]) -> int:
    parser = Parser("benchmarks/accuracy.py", __doc__)
    read = partial(names, "class", class_names())
    parser.add_argument("--classes", type=read, help="default: a few small layers of each")
    parser.add_argument("--winograd", action="store_true", help="allow Winograd on our side")
    parser.add_argument("--output", type=Path, help="a Markdown file; default: the terminal alone")
    arguments = parser.parse_args(argv)
    layers = load_layers(arguments.classes, quick=arguments.classes is None)
    with convgrad_ext.allow_winograd(arguments.winograd):
        text = f"{processor_name()}, {len(layers)} layers:\n\n{table(layers)}"
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of("benchmarks/accuracy.py", main, sys.argv[1:]))
