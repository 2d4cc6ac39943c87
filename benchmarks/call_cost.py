"""What a call costs besides its arithmetic: ours and F.conv2d on a 4x4 image of one channel.

    python benchmarks/call_cost.py

Both sides take turns, a few hundred calls each; the least time of all turns counts, because other
work of the machine only adds.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import convgrad_ext
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


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = Table("call", "kernel", "ours, us", "F.conv2d, us", "ratio", title=processor_name())
    for kernel in (2, 3):
        for name, of in cases(kernel).items():
            ours, torchs = least_microseconds(of(convgrad_ext.conv2d), of(F.conv2d))
            size = f"{kernel}x{kernel}"
            table.add_row(name, size, f"{ours:.2f}", f"{torchs:.2f}", f"{ours / torchs:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
