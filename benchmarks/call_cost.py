"""What a call costs besides its arithmetic: ours and F.conv2d on a 4x4 image of one channel.

    python benchmarks/call_cost.py
    python benchmarks/call_cost.py --launches

The second one needs no GPU: it is the time from an operator's call to the launch of a kernel in
Triton, in whose place stands a function that does nothing.

Both sides take turns, a few hundred calls each; the least time of all turns counts, because other
work of the machine only adds.
"""

from __future__ import annotations

import importlib
import sys
import timeit
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as python -m would

import convgrad_ext
from benchmarks import Parser, exit_code_of
from convgrad_ext.info import processor_name

CALLS, TURNS = 200, 200
Call = Callable[..., Tensor]


def forward(conv: Call, *tensors: Tensor) -> Callable[[], Any]:
    return lambda: conv(*tensors)


def training_step(conv: Call, input: Tensor, weight: Tensor) -> Callable[[], Any]:
    def run() -> None:
        input.grad = weight.grad = None
        conv(input, weight).sum().backward()

    return run


def layer(conv: Call, input: Tensor, weight: Tensor) -> Callable[[], Any]:
    """The module's forward, which records because its parameters require gradients."""
    module = nn.Conv2d if conv is F.conv2d else convgrad_ext.Conv2d
    made = module(1, 1, weight.shape[2], bias=False)
    return lambda: made(input)


def cases(kernel: int) -> dict[str, Callable[[Call], Callable[[], Any]]]:
    plain = torch.randn(1, 1, 4, 4), torch.randn(1, 1, kernel, kernel)
    recorded = [t.clone().requires_grad_() for t in plain]
    return {
        "nothing recorded": lambda conv: forward(conv, *plain),
        "recorded": lambda conv: forward(conv, *recorded),
        "forward and backward": lambda conv: training_step(conv, *recorded),
        "layer": lambda conv: layer(conv, *plain),
    }


def least_microseconds(*calls: Callable[[], Any]) -> list[float]:
    """Of each call, in turns."""
    timers = [timeit.Timer(call) for call in calls]
    turns = [[timer.timeit(CALLS) for timer in timers] for _ in range(TURNS)]
    return [min(times) / CALLS * 1e6 for times in zip(*turns, strict=True)]


# Of the passes in Triton, up to the launch.


class NoKernel:
    """Takes a kernel's place."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda **arguments: None


def launch_calls(memory_format: torch.memory_format) -> dict[str, Callable[[], Any]]:
    """Each operator on tensors of the CPU; with channels_last they are read in boxes."""
    input, weight = (torch.empty(32, 32, extent, extent).half() for extent in (8, 3))
    x, w = (tensor.to(memory_format=memory_format) for tensor in (input, weight))
    operators, params = torch.ops.convgrad_ext, ((1, 1), (1, 1, 1, 1), (1, 1), 1)
    y = torch.empty_like(x)
    return {
        "forward": lambda: operators.conv2d(x, w, None, *params),
        "grad_input": lambda: operators.conv2d_input(x.shape, w, y, *params),
        "grad_weight": lambda: operators.conv2d_weight(x, w.shape, y, *params),
    }


def launches() -> Table:
    triton = importlib.import_module("convgrad_ext.triton")
    for module in map(triton.imported, ("gather", "reduction")):
        for name in triton.imported("tiles").TABLES.keys() | {"add_splits"}:
            if hasattr(module, name):
                setattr(module, name, NoKernel(name))
    with warnings.catch_warnings():  # PyTorch says that the CPU has other loops
        warnings.simplefilter("ignore")
        triton.register("CPU")
    table = Table("call", "NCHW, us", "channels_last, us", title=processor_name())
    columns = [launch_calls(of) for of in (torch.contiguous_format, torch.channels_last)]
    for name in columns[0]:
        times = least_microseconds(*(column[name] for column in columns))
        table.add_row(name, *(f"{time:.1f}" for time in times))
    return table


def calls() -> Table:
    table = Table("call", "kernel", "ours, us", "F.conv2d, us", "ratio", title=processor_name())
    for kernel in (2, 3):
        for name, of in cases(kernel).items():
            ours, torchs = least_microseconds(of(convgrad_ext.conv2d), of(F.conv2d))
            size = f"{kernel}x{kernel}"
            table.add_row(name, size, f"{ours:.2f}", f"{torchs:.2f}", f"{ours / torchs:.2f}")
    return table


def main(argv: list[str]) -> int:
    parser = Parser("benchmarks/call_cost.py", __doc__)
    parser.add_argument("--launches", action="store_true", help="up to the launch of a kernel")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    Console().print(launches() if arguments.launches else calls())
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of("benchmarks/call_cost.py", main, sys.argv[1:]))
