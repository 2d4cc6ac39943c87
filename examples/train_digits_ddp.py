"""Train on handwritten digits in several processes, each with a share of every batch.

`DistributedDataParallel` averages the gradients of the processes at every step. So the weights stay
those of one process that gets whole batches, up to rounding.

    torchrun --nproc-per-node 2 examples/train_digits_ddp.py

trains both ways, prints both accuracies and the largest difference between the gradients, and ends
with status 1 if a result is not as it should be.
"""

import argparse
import os
import sys
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parameters_to_vector
from train_digits import ALLOWED_DIFFERENCE, Batch, accuracy, load, shuffled_batches

from convgrad_ext import Conv2d


@dataclass
class Run:
    """The results of one training."""

    accuracy: float  # on unseen digits
    gradients: Tensor  # (steps, parameters)


def digits_network(seed: int, width: int = 16) -> nn.Sequential:
    """Classify images of 8x8.

    Its norms are over one image at a time. Those of `nn.BatchNorm2d` would be over the images of
    one process, and the processes together would not train as one does.
    """
    torch.manual_seed(seed)
    return nn.Sequential(
        Conv2d(1, width, kernel_size=5, padding=2, bias=False),
        nn.GroupNorm(4, width),
        nn.ReLU(),
        Conv2d(width, width, kernel_size=3, padding=1, groups=width),  # depthwise
        Conv2d(width, 2 * width, kernel_size=1, bias=False),
        nn.GroupNorm(4, 2 * width),
        nn.ReLU(),
        Conv2d(2 * width, 2 * width, kernel_size=3, padding="same", stride=2),  # 8x8 to 4x4
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * 4 * 4, 10),
    ).double()


def train(model: nn.Module, batches: list[Batch], rank: int, processes: int) -> Tensor:
    """Trains with every share number `rank` of `processes`; returns the gradients of each step."""
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=len(batches))
    gradients = []
    for images, digits in batches:
        share = slice(rank, None, processes)
        loss = F.cross_entropy(model(images[share]), digits[share], reduction="sum")
        # The mean over the processes has to be that of the batch, whose shares may differ by one.
        loss = loss * processes / len(images)
        optimizer.zero_grad()
        loss.backward()
        gradients.append(parameters_to_vector(p.grad for p in model.parameters()))
        optimizer.step()
        schedule.step()
    return torch.stack(gradients)


def compare(epochs: int, seed: int) -> tuple[Run, Run]:
    """The training of one process and that of all together."""
    training, test = load(seed)
    batches = shuffled_batches(*training, epochs, seed)
    runs = []
    for rank, processes in ((0, 1), (dist.get_rank(), dist.get_world_size())):
        model = digits_network(seed)
        shared = DistributedDataParallel(model) if processes > 1 else model
        gradients = train(shared, batches, rank, processes)
        runs.append(Run(accuracy(model.eval(), *test), gradients))
    alone, together = runs
    return alone, together


def report(alone: Run, together: Run, difference: float) -> Table:
    table = Table("", "one process", f"{dist.get_world_size()} processes", title="float64")
    accuracies = (f"{run.accuracy:.2%}" for run in (alone, together))
    table.add_row("accuracy on unseen digits", *accuracies)
    table.add_row("largest difference of gradients", "", f"{difference:.1e}")
    return table


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accuracy", type=float, default=0.97, help="fail below this")
    arguments = parser.parse_args()
    if "RANK" not in os.environ:
        parser.error(f"start it with torchrun --nproc-per-node 2 {sys.argv[0]}")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    torch.set_num_threads(1)  # the processors are for the processes
    dist.init_process_group("gloo")
    try:
        alone, together = compare(arguments.epochs, arguments.seed)
        difference = (alone.gradients - together.gradients).abs().max().item()
        difference /= alone.gradients.abs().max().item()
        required = {
            f"accuracies of {arguments.accuracy:.0%}": together.accuracy >= arguments.accuracy,
            "the accuracy of one process": together.accuracy == alone.accuracy,
            f"a difference below {ALLOWED_DIFFERENCE}": difference < ALLOWED_DIFFERENCE,
        }
        failures = [name for name, reached in required.items() if not reached]
        if dist.get_rank() == 0:
            console = Console()
            console.print(report(alone, together, difference))
            for failure in failures:
                console.print(f"[red]Not reached: {failure}")
        return 1 if failures else 0
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
