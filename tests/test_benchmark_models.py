"""benchmarks/models.py: real networks, converted, against themselves."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kernel_names import KERNELS
from stand_ins import StandIn, rows_in
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import exit_code_of, models, report
from benchmarks.measure import PEAK_RESET
from benchmarks.models import Contest

CONTEST = Contest("tiny", 32, 2, "train_step", 1, "float32", "channels_last", winograd=False)
OURS = KERNELS[0]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ResNet with two blocks, and an EfficientNet whose depthwise layers are of a subclass."""
    pytest.importorskip("transformers")
    resnet = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    small = {"width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 320}
    efficientnet = models.EFFICIENTNET_B0 | small
    networks = {"tiny": ("ResNet", resnet), "subclasses": ("EfficientNet", efficientnet)}
    monkeypatch.setattr(models, "NETWORKS", networks)
    monkeypatch.setattr(models, "peak_bytes", lambda contest, ours: 1 << 20)


def measure(output: Path, *options: str) -> int:
    """benchmarks/models.py on a quiet machine with a steady clock; returns its exit code."""
    threads = torch.get_num_threads()
    brief = "--sizes", "32", "--batch", "2", "--seconds", "0.05", "--laps", "1"
    with pytest.MonkeyPatch.context() as patch:
        StandIn().replace_the_machine(patch)
        try:
            return models.main([*brief, *options, "--output", str(output)])
        finally:
            torch.set_num_threads(threads)


@pytest.mark.usefixtures("tiny")
def test_a_network_races_against_itself(tmp_path: Path) -> None:
    output = tmp_path / "models.json"
    assert measure(output, "--networks", "tiny", "--winograd") == 0
    cells = [(row["class"], row["pass"]) for row in rows_in(output)]
    assert cells == [
        (f"32x32 {memory_format}", mode)
        for memory_format in ("nchw", "channels_last")
        for mode in ("train_step", "inference")
    ]
    assert {row["side"] for row in rows_in(output)} == {f"{OURS}+winograd"}
    for line in report.lines_of(report.load(output)["rows"]):
        assert (line["ms"], line["/ conv2d"]) == pytest.approx((1.0, 1.0))
        assert (line["extra"], line["extra conv2d"]) == (1.0, 1.0)


@pytest.mark.usefixtures("tiny")
def test_an_interrupted_run_of_networks_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, inference = tmp_path / "models.json", models.inference
    options = "--networks", "tiny", "--memory-format", "nchw", "--modes", "train_step,inference"

    def interrupt(*arguments: object) -> None:
        if len(rows_in(output)) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(models, "paths_in", lambda *_: interrupt() or "")
    assert measure(output, *options) == 130
    kept = report.load(output)["rows"]
    assert [row["pass"] for row in rows_in(output)] == ["train_step"]
    monkeypatch.setattr(models, "paths_in", lambda *_: "")
    assert measure(output, *options, "--resume") == 0
    assert [row["pass"] for row in rows_in(output)] == ["train_step", "inference"]
    assert report.load(output)["rows"][: len(kept)] == kept
    assert models.inference is inference


class CalledOperators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operators: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators.add(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("network", ["tiny", "subclasses"])
def test_every_convolution_of_the_converted_network_runs_here(network: str) -> None:
    """convert leaves subclasses of nn.Conv2d alone."""
    contest = replace(CONTEST, network=network, mode="inference")
    theirs = models.build(contest)
    ours, within = models.convert(deepcopy(theirs), winograd=False)
    expected = models.side_of(contest, theirs, nullcontext).results()
    side = models.side_of(contest, ours, within)
    with CalledOperators() as called:
        torch.testing.assert_close(side.results(), expected, rtol=1e-3, atol=1e-4)
    assert torch.ops.convgrad_ext.conv2d.default in called.operators
    assert not {str(each) for each in called.operators if str(each).startswith("aten.conv")}


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("mode", models.MODES)
def test_networks_that_differ_are_not_timed(tmp_path: Path, mode: str) -> None:
    def spoil(network: nn.Module, winograd: bool) -> tuple[nn.Module, type[nullcontext]]:
        weight = models.convolutions(network)[-1].weight
        weight.data.mul_(1.1)
        return network, nullcontext

    output = tmp_path / "models.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "convert", spoil)
        options = "--networks", "tiny", "--memory-format", "nchw", "--modes", mode
        assert measure(output, *options) == 1
    (row,) = rows_in(output)
    assert row["problem"].startswith("its results are off by ")
    assert row["blocks_ms"] == []


@pytest.mark.usefixtures("tiny")
def test_activations_of_random_weights_do_not_vanish() -> None:
    """EfficientNet's batch norms begin with weights of 0.02, through which nothing arrives."""
    contest = replace(CONTEST, network="subclasses", mode="inference")
    (logits,) = models.side_of(contest, models.build(contest), nullcontext).results()
    assert logits.std() > 1e-3


@pytest.mark.skipif(not PEAK_RESET.exists(), reason="this system does not say what is resident")
def test_peak_memory_is_that_of_activations_and_gradients() -> None:
    """14 MB of gradients in a training step, which inference does not have."""
    pytest.importorskip("transformers")
    contest = Contest("mobilenet_v2", 64, 2, "train_step", 1, "float32", "nchw", winograd=False)
    gradients = 4 * 3_504_872
    training = models.peak_bytes(contest, ours=True)
    inference = models.peak_bytes(replace(contest, mode="inference"), ours=True)
    assert training is not None
    assert inference is not None
    assert gradients < training < 8 * gradients
    assert inference < gradients


def test_networks_have_their_full_width() -> None:
    """Parameters of the published networks, in millions, with 1000 labels."""
    transformers = pytest.importorskip("transformers")
    published = {
        "resnet50": 25.6, "mobilenet_v1": 4.2, "mobilenet_v2": 3.5, "efficientnet_b0": 5.3,
        "convnext_tiny": 28.6, "regnet": 20.6, "bit": 25.5,
    }  # fmt: skip
    assert {*models.NETWORKS} == {*published}
    for name, millions in published.items():
        kind, arguments = models.NETWORKS[name]
        config = getattr(transformers, f"{kind}Config")(num_labels=models.LABELS, **arguments)
        with torch.device("meta"):
            network = getattr(transformers, f"{kind}ForImageClassification")(config)
        found = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert found == pytest.approx(millions, abs=0.1), name


def test_a_missing_transformers_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    argv = ["--output", str(tmp_path / "models.json")]
    assert exit_code_of("models.py", models.main, argv) == 2
    sentence = "benchmarks/models.py needs the package transformers: pip install transformers"
    assert capsys.readouterr().err == f"models.py: {sentence}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--networks vgg99", "unknown network 'vgg99', known are resnet50, "),
        ("--modes sleep", "unknown mode 'sleep', known are train_step, inference"),
        ("--sizes 0", "argument --sizes: '0' is no whole number from 1"),
        ("--memory-format nhwc", "unknown memory format 'nhwc', known are nchw, channels_last"),
    ],
)
def test_bad_input_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: str, sentence: str
) -> None:
    argv = [*options.split(), "--output", str(tmp_path / "models.json")]
    assert exit_code_of("models.py", models.main, argv) == 2
    assert capsys.readouterr().err.startswith(f"models.py: {sentence}")
    assert not list(tmp_path.iterdir())
