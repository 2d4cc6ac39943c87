"""Races real networks, converted by convgrad_ext.convert, against themselves unconverted.

    python benchmarks/models.py --output models.json
    python benchmarks/models.py --networks bit --sizes 128 --modes inference --output bit.json
    python benchmarks/report.py models.json --output build/bench/models

The package transformers builds each network from its configuration at full width, with random
weights; nothing is downloaded. Both networks of a pair are timed in turns in one process.
"""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # as python -m would

import convgrad_ext
from benchmarks import BadInputError, Parser, exit_code_of, machine, names, run, whole, wholes
from benchmarks.layers import DTYPES, MEMORY_FORMATS
from benchmarks.measure import Effort, Row, Timing, extra_of_call, in_fresh_process, time_in_turns
from benchmarks.sides import BASELINE, WINOGRAD, Side, kernel_names, path_of

MODES = ("train_step", "inference")
LABELS = 1000
EFFICIENTNET_B0 = {
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "hidden_dim": 1280,
    "dropout_rate": 0.0,
    "drop_connect_rate": 0.0,
}
MOST_ERROR = 8.0  # of ours / theirs: Winograd's sums are twice as large on either axis
# The name of each in transformers, and the arguments of its configuration: the width, where the
# default is another, and no dropout, so that results can be compared.
NETWORKS: dict[str, tuple[str, dict[str, float]]] = {
    "resnet50": ("ResNet", {}),
    "mobilenet_v1": ("MobileNetV1", {"classifier_dropout_prob": 0.0}),
    "mobilenet_v2": ("MobileNetV2", {"classifier_dropout_prob": 0.0}),
    "efficientnet_b0": ("EfficientNet", EFFICIENTNET_B0),
    "convnext_tiny": ("ConvNext", {}),
    "regnet": ("RegNet", {}),
    "bit": ("Bit", {}),
}


@dataclass(frozen=True)
class Contest:
    """One network in one form, converted and unconverted."""

    network: str
    size: int  # pixels, the height and the width of an image
    batch: int
    mode: str
    threads: int
    dtype: str
    memory_format: str
    winograd: bool

    @property
    def fields(self) -> Row:
        """Those that both of its rows have in common."""
        return {
            "layer": self.network,
            "class": f"{self.size}x{self.size} {self.memory_format}",
            "pass": self.mode,
            "threads": self.threads,
        }

    def images(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        size = self.batch, 3, self.size, self.size
        images = torch.randn(size, generator=generator, dtype=DTYPES[self.dtype])
        return images.to(memory_format=MEMORY_FORMATS[self.memory_format])


def check_installed() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise BadInputError(
            "benchmarks/models.py needs the package transformers: pip install transformers"
        ) from None


def build(contest: Contest) -> nn.Module:
    transformers = check_installed()
    name, arguments = NETWORKS[contest.network]
    config = getattr(transformers, f"{name}Config")(num_labels=LABELS, **arguments)
    torch.manual_seed(0)
    network: nn.Module = getattr(transformers, f"{name}ForImageClassification")(config)
    network.to(torch.empty(0, dtype=DTYPES[contest.dtype]))
    for weight in (layer.weight for layer in convolutions(network)):
        weight.data = weight.data.to(memory_format=MEMORY_FORMATS[contest.memory_format])
    settle(network, contest.images())
    return network.train(contest.mode == "train_step")


def settle(network: nn.Module, images: Tensor) -> None:
    """Gives batch norms the statistics of one batch: random weights let activations vanish."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
            layer.momentum = 1.0
    with torch.no_grad():
        network.train()(images)


def convert(network: nn.Module, winograd: bool) -> tuple[nn.Module, Callable[..., Any]]:
    """The converted network and the scope that it runs in.

    Subclasses of nn.Conv2d, which convert leaves alone, run here by replacing_conv2d.
    """
    convgrad_ext.convert(network)
    converted = (isinstance(layer, convgrad_ext.Conv2d) for layer in convolutions(network))
    return network, partial(scope, winograd, not all(converted))


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


@contextmanager
def scope(winograd: bool, replacing: bool) -> Iterator[None]:
    replaced: AbstractContextManager[Any] = nullcontext()
    if replacing:
        replaced = convgrad_ext.replacing_conv2d()
    with convgrad_ext.allow_winograd(winograd), replaced:
        yield


def side_of(contest: Contest, network: nn.Module, within: Callable[..., Any]) -> Side:
    steps = {"train_step": train_step, "inference": inference}
    images = contest.images().to(next(network.parameters()).dtype)
    return Side(partial(steps[contest.mode], network, images), within)


def train_step(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Forward, loss and backward; the logits and the gradients."""
    network.zero_grad(set_to_none=True)
    logits = network(images).logits
    F.cross_entropy(logits, torch.arange(len(images))).backward()
    gradients = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    return logits.detach(), torch.cat(gradients)


def inference(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        return (network(images).logits,)


def problem_of(ours: Side, theirs: Side, exact: Side, dtype: torch.dtype) -> str | None:
    """A sentence if our results are further from those in float64 than theirs are.

    Deep networks enlarge rounding errors: gradients in float32 may be off by a percent on both
    sides. So ours may err several times as much as theirs, or lose half of the digits.
    """
    for mine, other, true in zip(ours.results(), theirs.results(), exact.results(), strict=True):
        size = float(true.norm())
        off, usual = (float((x.double() - true).norm()) / size for x in (mine, other))
        if not off <= max(MOST_ERROR * usual, torch.finfo(dtype).eps ** 0.5):  # a NaN is not
            return (
                f"its results are off by {off:.1e} of their size, those of nn.Conv2d by {usual:.1e}"
            )
    return None


def paths_in(contest: Contest, network: nn.Module, within: Callable[..., Any]) -> str:
    """How many convolutions take which path in the forward."""
    found: Counter[str] = Counter()

    def note(layer: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        arguments = layer.stride, layer.padding, layer.dilation, layer.groups
        found.update(path_of(inputs[0], layer.weight, arguments, ("forward",)))

    hooks = [layer.register_forward_hook(note) for layer in convolutions(network)]
    with within():
        inference(network, contest.images())
    for hook in hooks:
        hook.remove()
    return ", ".join(f"{count} {path}" for path, count in found.most_common() if path)


def measure(contest: Contest, effort: Effort) -> list[Row]:
    """The rows of both sides: verified, then timed in turns."""
    torch.set_num_threads(contest.threads)
    network = build(contest)
    theirs = side_of(contest, network, nullcontext)
    converted, within = convert(deepcopy(network), contest.winograd)
    ours = side_of(contest, converted, within)
    dtype = DTYPES[contest.dtype]
    exact = side_of(contest, deepcopy(network).double(), nullcontext)
    problem = problem_of(ours, theirs, exact, dtype)
    timings = Timing(ours), Timing(theirs)
    if not problem:
        time_in_turns(timings, effort)
    name = kernel_names(dtype)[0] + (WINOGRAD if contest.winograd else "")
    paths = paths_in(contest, converted, within)
    identities = (
        {"side": name, "ours": True, "path": paths, "problem": problem},
        {"side": BASELINE, "ours": False, "path": "", "problem": None},
    )
    common = contest.fields | {"gflop": None, "effective_gflop": None}
    return [
        common | identity | timing.figures(partial(peak_bytes, contest, identity["ours"]))
        for identity, timing in zip(identities, timings, strict=True)
    ]


@cache
def peak_bytes(contest: Contest, ours: bool) -> int | None:
    """The most that one call holds beyond the network and the images, in a fresh process."""
    return in_fresh_process(contest.threads, partial(peak_of_call, contest, ours))


def peak_of_call(contest: Contest, ours: bool) -> int:
    network = build(contest)
    side = side_of(contest, network, nullcontext)
    if ours:
        side = side_of(contest, *convert(network, contest.winograd))
    side.results()  # loads code and starts threads
    network.zero_grad(set_to_none=True)
    return extra_of_call(side.results)


# The command.


def parser() -> Parser:
    parser = Parser("benchmarks/models.py", __doc__)
    add, formats = parser.add_argument, [*MEMORY_FORMATS]
    networks = partial(names, "network", NETWORKS)
    add(
        "--networks",
        type=networks,
        default=[*NETWORKS],
        help=f"{', '.join(NETWORKS)}; default: all",
    )
    add("--sizes", type=wholes, default=[128, 224], help="of the images; default: 128,224")
    add("--batch", type=whole, default=4, help="images in a batch; default: 4")
    add("--modes", type=partial(names, "mode", MODES), default=[*MODES], help="default: both")
    add("--memory-format", type=partial(names, "memory format", formats), default=formats)
    add("--winograd", action="store_true", help="allow Winograd on our side")
    run.add_common(parser, seconds="10")
    return parser


def settings_from(arguments: Namespace) -> Row:
    same = ("dtype", "isa", "threads", "networks", "sizes", "batch", "modes", "winograd")
    return {
        **{name: vars(arguments)[name] for name in same},
        "memory_format": ",".join(arguments.memory_format),
        "against": [BASELINE],
        "set": "networks'",
    }


def contests_of(settings: Row) -> list[Contest]:
    """Those of one network together."""
    return [
        Contest(network, size, settings["batch"], mode, threads, settings["dtype"],
                memory_format, settings["winograd"])
        for network in settings["networks"]
        for size in settings["sizes"]
        for memory_format in settings["memory_format"].split(",")
        for mode in settings["modes"]
        for threads in settings["threads"]
    ]  # fmt: skip


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(argv)
    machine.touch_heap()
    check_installed()
    settings = settings_from(arguments)
    effort = Effort(arguments.seconds or 10.0, arguments.laps)
    contests = contests_of(settings)
    units = [(contest.fields, partial(measure, contest, effort)) for contest in contests]
    return run.run(run.Results(arguments.output, settings, arguments.resume), units, effort.laps)


def command(argv: list[str]) -> int:
    machine.start_anew(parser().parse_args(argv).isa)
    return main(argv)


if __name__ == "__main__":
    sys.exit(exit_code_of("benchmarks/models.py", command, sys.argv[1:]))
