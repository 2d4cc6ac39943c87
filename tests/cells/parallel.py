"""Training over two processes: DDP, FSDP2, DTensor. One pair of processes serves all the cells."""

from __future__ import annotations

import datetime
import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from cells import IMPLEMENTATIONS, RIGHT, WRONG, Implementation, cell, outcome_of
from cells.plain import assert_same, conv2d, leaves_of

GROUP = "two processes"
WORLD = 2
CHECKS: dict[str, Callable[[Implementation], None]] = {}
Placements = tuple[Any, Any, Any]


def worker(rank: int, folder: str) -> None:
    """One of the processes: every check of either implementation; it leaves a file of outcomes."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", WORLD)
    limit = datetime.timedelta(seconds=60)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORLD, timeout=limit)
    outcomes = {
        implementation.name: {
            name: outcome_of(check, implementation) for name, check in CHECKS.items()
        }
        for implementation in IMPLEMENTATIONS
    }
    Path(folder, str(rank)).write_text(json.dumps(outcomes))
    dist.destroy_process_group()


@functools.cache
def outcomes_of_pair() -> list[Any]:
    """The outcomes in either process, by implementation and check."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(worker, (folder,), nprocs=WORLD)
        return [json.loads(Path(folder, str(rank)).read_text()) for rank in range(WORLD)]


def in_pair(name: str, meaning: str) -> Callable[[Any], Any]:
    """Registers a check that runs in both processes."""

    def register(check: Callable[[Implementation], None]) -> Callable[[Implementation], None]:
        CHECKS[name] = check

        @cell(GROUP, name, meaning)
        def report(implementation: Implementation) -> None:
            outcomes = [each[implementation.name][name] for each in outcomes_of_pair()]
            for outcome in outcomes:
                assert outcome != WRONG
                if outcome != RIGHT:
                    raise type(outcome.removeprefix("raises "), (Exception,), {})

        return check

    return register


def model_of(Conv2d: type[nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Conv2d(3, 4, 3, padding=1), nn.ReLU(), Conv2d(4, 2, 1)).double()


def images() -> Tensor:
    return torch.randn(4, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def expected_gradients() -> list[Tensor]:
    """Of the mean loss over the whole batch, in one process."""
    first, _, second = model_of(nn.Conv2d)
    parameters = [first.weight, first.bias, second.weight, second.bias]
    hidden = conv2d(images(), first.weight, first.bias, padding=1).relu()
    output = conv2d(hidden, second.weight, second.bias)
    return list(torch.autograd.grad(output.square().mean(), parameters))


def train(model: nn.Module) -> list[Tensor]:
    """Gradients over this process's half of the batch, two steps."""
    half = images().chunk(WORLD)[dist.get_rank()]
    for _ in range(2):
        model.zero_grad()
        model(half).square().mean().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@in_pair("DDP", "`DistributedDataParallel`: gradients of the whole batch, no warning")
def check_ddp(implementation: Implementation) -> None:
    model = DistributedDataParallel(model_of(implementation.Conv2d))
    assert_same(train(model), expected_gradients())


@in_pair("DDP, channels_last", "the same with images and weights in channels_last")
def check_ddp_channels_last(implementation: Implementation) -> None:
    model = model_of(implementation.Conv2d).to(memory_format=torch.channels_last)
    assert_same(train(DistributedDataParallel(model)), expected_gradients())


@in_pair("FSDP2", "`fully_shard` of each layer and the whole: gradients of the whole batch")
def check_fsdp(implementation: Implementation) -> None:
    model = model_of(implementation.Conv2d)
    mesh = init_device_mesh("cpu", (WORLD,))
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=mesh)
    gradients: Any = train(model)
    assert_same([g.full_tensor() for g in gradients], expected_gradients())


def register_dtensor(name: str, meaning: str, placements: Placements) -> None:
    @in_pair(f"DTensor, {name}", meaning)
    def check(implementation: Implementation) -> None:
        mesh = init_device_mesh("cpu", (WORLD,))
        generator = torch.Generator().manual_seed(2)
        sizes = ((4, 2, 5, 6), (6, 2, 3, 3), (6,))
        tensors = [torch.randn(s, dtype=torch.float64, generator=generator) for s in sizes]
        plain = leaves_of(*tensors)
        expected = conv2d(*plain, padding=1)
        leaves = [
            distribute_tensor(t, mesh, [p]).requires_grad_()
            for t, p in zip(tensors, placements, strict=True)
        ]
        output = implementation.conv2d(*leaves, padding=1)
        assert isinstance(output, DTensor)
        gradients = torch.autograd.grad((output**2).sum(), leaves)
        actual = (output.full_tensor(), *(g.full_tensor() for g in gradients))
        assert_same(actual, (expected, *torch.autograd.grad((expected**2).sum(), plain)))


register_dtensor("batch", "images over the processes", (Shard(0), Replicate(), Replicate()))
register_dtensor("output channels", "filters over the processes", (Replicate(), Shard(0), Shard(0)))
register_dtensor(
    "input channels",
    "channels over the processes, a partial sum",
    (Shard(1), Shard(1), Replicate()),
)
