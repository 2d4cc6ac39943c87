"""Processes that train together, each with a share of the batch: cells for distributed_cells.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import convgrad_ext


def network(dtype: torch.dtype) -> nn.Sequential:
    """Kinds of layers whose gradients have layouts of their own, the same in every process."""
    torch.manual_seed(0)
    Conv2d = convgrad_ext.Conv2d
    model = nn.Sequential(
        Conv2d(3, 5, 3, padding="same", stride=2),
        nn.SiLU(),
        Conv2d(5, 7, 1),
        Conv2d(7, 7, 3, padding=1, groups=7),
        nn.SiLU(),
        Conv2d(7, 6, 3, padding=((1, 0), (0, 1)), padding_mode="circular", bias=False),
        nn.SiLU(),
        Conv2d(6, 4, (1, 2), dilation=(1, 2), groups=2),
        nn.Flatten(),
        nn.LazyLinear(3),
    )
    model(torch.zeros(1, 3, 8, 8))
    return model.to(dtype)


def train(model: nn.Module, images: Tensor, targets: Tensor) -> list[list[Tensor]]:
    """Of each step the gradients, and the parameters after it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    steps = []
    for _ in range(4):
        optimizer.zero_grad()
        F.mse_loss(model(images), targets).backward()
        gradients = [whole(p.grad) for p in model.parameters()]
        optimizer.step()
        steps.append(gradients + [whole(p) for p in model.parameters()])
    return steps


def whole(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()


@dataclass(frozen=True)
class Training:
    """How a network is trained, and the layouts of images and of parameters."""

    wrap: Callable[[nn.Sequential, DeviceMesh], nn.Module]
    dtype: torch.dtype
    images: torch.memory_format
    parameters: torch.memory_format

    def __str__(self) -> str:
        return "_".join(
            (self.wrap.__name__, *(str(a)[6:] for a in (self.dtype, self.images, self.parameters)))
        )

    def __call__(self, mesh: DeviceMesh) -> None:
        """Steps of all processes, each with a share of the batch, are those of one with it all."""
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(4, 3, 8, 8, generator=generator)
        images = images.to(self.dtype, memory_format=self.images)
        targets = torch.randn(4, 3, generator=generator).to(self.dtype)
        expected = train(self.network(), images, targets)
        shares = (t.chunk(mesh.size())[mesh.get_rank()] for t in (images, targets))
        actual = train(self.wrap(self.network(), mesh), *shares)
        # The rounding of sums of the batch in another order, after four steps. A gradient
        # that is not averaged differs in its first digit.
        tolerance = 200 * torch.finfo(self.dtype).eps
        for ours, theirs in zip(actual, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)

    def network(self) -> nn.Sequential:
        return network(self.dtype).to(memory_format=self.parameters)


def in_ddp(model: nn.Sequential, mesh: DeviceMesh) -> nn.Module:
    return DistributedDataParallel(model)


def in_fsdp2(model: nn.Sequential, mesh: DeviceMesh) -> nn.Module:
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def ddp_in_one_bucket_view(model: nn.Sequential, mesh: DeviceMesh) -> nn.Module:
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


DTYPES = torch.float64, torch.float32
LAYOUTS = torch.contiguous_format, torch.channels_last
DDP = in_ddp, ddp_in_one_bucket_view
TRAININGS = (
    # DDP warns where the gradients have other strides than their parameters: "Grad strides do not
    # match bucket view strides".
    *(Training(*way) for way in product(DDP, DTYPES, LAYOUTS, LAYOUTS)),
    # FSDP2 takes only contiguous parameters.
    *(Training(*way) for way in product((in_fsdp2,), DTYPES, LAYOUTS, LAYOUTS[:1])),
)
CELLS: dict[str, Callable[[DeviceMesh], None]] = {str(way): way for way in TRAININGS}
