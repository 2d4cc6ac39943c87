"""Train a small network on handwritten digits, with `convgrad_ext.Conv2d` and with `nn.Conv2d`.

`convgrad_ext.Conv2d` takes the arguments of `nn.Conv2d` and can take its place everywhere:
`digits_network` gets one of the two and is otherwise an ordinary model. From the same seed both
start at the same weights, and both get the same batches in the same order. So every gradient of one
run can be compared with that of the other. They may differ by rounding alone.

    python examples/train_digits.py --output build/demo

prints both accuracies, the largest difference between the gradients and the result of
`torch.autograd.gradcheck` for each convolution, and draws the losses and the filters of the first
layer. It ends with status 1 if a result is not as it should be.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn.utils import parameters_to_vector

from convgrad_ext import Conv2d, conv2d

BATCH_SIZE = 64
CPU = torch.device("cpu")
REQUIRED_ACCURACY = 0.97
ROUNDING = torch.finfo(torch.float64).eps
# Rounding grows a little with every step of the training, but stays far below this. A wrong
# gradient differs in its first digits.
ALLOWED_DIFFERENCE = 1e-8

Batch = tuple[Tensor, Tensor]


@dataclass
class Run:
    """The results of one training."""

    model: nn.Sequential
    seconds: float
    losses: list[float]  # one a step
    gradients: Tensor  # (steps, parameters)


@dataclass
class Findings:
    """The comparison of the two runs, `theirs` first."""

    accuracies: list[float]
    difference: float  # the largest between the gradients, as a part of the largest gradient
    gradchecks: dict[str, bool]

    def failures(self) -> list[str]:
        required = {
            f"accuracies of {REQUIRED_ACCURACY:.0%}": min(self.accuracies) >= REQUIRED_ACCURACY,
            f"a difference below {ALLOWED_DIFFERENCE}": self.difference < ALLOWED_DIFFERENCE,
            "gradcheck of every convolution": all(self.gradchecks.values()),
        }
        return [name for name, reached in required.items() if not reached]


def load(seed: int, device: torch.device = CPU) -> tuple[Batch, Batch]:
    """1797 images of 8x8 and their digits: three quarters to train with, the rest to test."""
    images, digits = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8) / 8 - 1  # from 0..16 to -1..1
    parts = train_test_split(images, digits, test_size=0.25, stratify=digits, random_state=seed)
    tensors = (torch.from_numpy(part).to(device) for part in parts)
    train_images, test_images, train_digits, test_digits = tensors
    return (train_images, train_digits), (test_images, test_digits)


def shuffled_batches(images: Tensor, digits: Tensor, epochs: int, seed: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(images), generator=generator) for _ in range(epochs)]
    orders = [order.to(images.device) for order in orders]
    return [(images[part], digits[part]) for order in orders for part in order.split(BATCH_SIZE)]


def digits_network(Conv2d: type[nn.Conv2d], seed: int, width: int = 12) -> nn.Sequential:
    """Classify images of 8x8. Each convolution has another geometry."""
    torch.manual_seed(seed)
    return nn.Sequential(
        Conv2d(1, width, kernel_size=5, padding=2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        Conv2d(width, width, kernel_size=3, padding=1, groups=width),  # depthwise
        Conv2d(width, 2 * width, kernel_size=3, padding=1, stride=2, bias=False),  # 8x8 to 4x4
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        Conv2d(2 * width, 2 * width, kernel_size=3, padding=2, dilation=2, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * 4 * 4, 10),
    ).double()


def train(model: nn.Sequential, batches: list[Batch], label: str, progress: Progress) -> Run:
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=len(batches))
    losses, gradients = [], []
    start = time.perf_counter()
    for images, digits in progress.track(batches, description=label):
        loss = F.cross_entropy(model(images), digits, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        gradients.append(parameters_to_vector(p.grad for p in model.parameters()))
        optimizer.step()
        schedule.step()
    return Run(model.eval(), time.perf_counter() - start, losses, torch.stack(gradients).cpu())


@torch.no_grad()
def accuracy(model: nn.Sequential, images: Tensor, digits: Tensor) -> float:
    return (model(images).argmax(dim=1) == digits).double().mean().item()


def gradient_differences(theirs: Run, ours: Run) -> Tensor:
    """The largest difference of each step, as a part of the largest gradient of all."""
    differences = (ours.gradients - theirs.gradients).abs().amax(dim=1)
    return differences / theirs.gradients.abs().max()


def describe(layer: nn.Conv2d) -> str:
    K_h, K_w = layer.kernel_size
    options = {"stride": layer.stride[0], "dilation": layer.dilation[0], "groups": layer.groups}
    parts = [f"{name} {value}" for name, value in options.items() if value != 1]
    return ", ".join([f"{K_h}x{K_w}", *parts])


def passes_gradcheck(layer: nn.Conv2d) -> bool:
    """Compare the gradients for input, weight and bias with finite differences of the output."""

    def forward(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return conv2d(
            input, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups
        )

    input = torch.randn(2, layer.in_channels, 6, 5).to(layer.weight).requires_grad_()
    return gradcheck(forward, (input, *layer.parameters()), raise_exception=False)


def findings(theirs: Run, ours: Run, test: Batch, seed: int) -> Findings:
    # Finite differences need two outputs for every single number, so they get a narrow network.
    narrow = digits_network(Conv2d, seed, width=2).to(test[0].device)
    layers = [layer for layer in narrow if isinstance(layer, nn.Conv2d)]
    return Findings(
        accuracies=[accuracy(run.model, *test) for run in (theirs, ours)],
        difference=gradient_differences(theirs, ours).max().item(),
        gradchecks={describe(layer): passes_gradcheck(layer) for layer in layers},
    )


def report(theirs: Run, ours: Run, found: Findings) -> Table:
    table = Table("", "nn.Conv2d", "convgrad_ext.Conv2d", title="Handwritten digits, float64")
    table.add_row("accuracy on unseen digits", *(f"{part:.2%}" for part in found.accuracies))
    table.add_row("last loss in training", *(f"{run.losses[-1]:.6f}" for run in (theirs, ours)))
    table.add_row("seconds of training", *(f"{run.seconds:.1f}" for run in (theirs, ours)))
    largest = theirs.gradients.abs().max().item()
    table.add_row("largest gradient", f"{largest:.2f}", f"{ours.gradients.abs().max().item():.2f}")
    table.add_section()
    table.add_row("largest difference of gradients", "", f"{found.difference * largest:.1e}")
    table.add_row("... beside the largest gradient", "", f"{found.difference:.1e}")
    table.add_section()
    for layer, passed in found.gradchecks.items():
        table.add_row(f"gradcheck of {layer}", "", "passed" if passed else "[red]failed")
    return table


def draw_losses(theirs: Run, ours: Run, path: Path) -> None:
    figure = Figure(figsize=(7, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    above.plot(theirs.losses, color="#f2b134", linewidth=5, label="nn.Conv2d")
    above.plot(ours.losses, color="#1b3a5b", linewidth=1.2, label="convgrad_ext.Conv2d")
    above.set(ylabel="loss", title="The same training with either convolution")
    above.legend(frameon=False)
    below.semilogy(gradient_differences(theirs, ours).numpy(), color="#1b3a5b", linewidth=1.2)
    below.axhline(ROUNDING, color="grey", linestyle=":")
    below.text(0, ROUNDING / 2, "spacing of float64 at 1", color="grey", va="top")
    below.set(xlabel="step", ylabel="difference of gradients\n/ largest gradient")
    below.set_ylim(1e-17, 1e-13)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


@torch.no_grad()
def draw_filters(layer: nn.Conv2d, image: Tensor, path: Path) -> None:
    """The filters, each with its response to the image: red above zero, blue below."""
    responses = layer(image).cpu()
    figure = Figure(figsize=(11, 2.3), layout="constrained")
    above, below = figure.subplots(2, 1 + layer.out_channels)
    for axes in (*above, *below):
        axes.set_axis_off()
    above[0].imshow(image[0].cpu().numpy(), cmap="gray_r")
    below[0].text(0.5, 0.5, "filter above,\nresponse below", ha="center", va="center", fontsize=8)
    for row, pictures in ((above, layer.weight.squeeze(1).cpu()), (below, responses)):
        limit = pictures.abs().max().item()
        for axes, picture in zip(row[1:], pictures, strict=True):
            axes.imshow(picture.numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.suptitle("The filters that the first layer learned")
    figure.savefig(path, dpi=150)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", type=torch.device, default="cpu", help="cuda, say")
    parser.add_argument("--output", type=Path, default=Path("build/demo"))
    arguments = parser.parse_args()
    if arguments.device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device {arguments.device}: PyTorch finds no GPU")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    seed, output, device = arguments.seed, arguments.output, arguments.device
    torch.set_num_threads(1)  # each step is so small that a second thread would wait for the first
    console = Console()
    training, test = load(seed, device)
    batches = shuffled_batches(*training, arguments.epochs, seed)
    with Progress(console=console) as progress:
        theirs, ours = (
            train(digits_network(layer, seed).to(device), batches, label, progress)
            for layer, label in ((nn.Conv2d, "nn.Conv2d"), (Conv2d, "convgrad_ext.Conv2d"))
        )
    found = findings(theirs, ours, test, seed)
    console.print(report(theirs, ours, found))
    output.mkdir(parents=True, exist_ok=True)
    draw_losses(theirs, ours, output / "losses.png")
    draw_filters(ours.model[0], test[0][0], output / "filters.png")
    console.print(f"Pictures: {output}/losses.png, {output}/filters.png")
    failures = found.failures()
    for failure in failures:
        console.print(f"[red]Not reached: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
