"""The benchmark with --device cuda, on a stand-in for the card: these tests need no GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from stand_ins import MACHINE, StandIn, measure, rows_in
from torch import Tensor

from benchmarks import cuda, exit_code_of, report, run, sides

card = pytest.importorskip("benchmarks.card", reason="it needs Triton: pip install triton")

LAST = torch.channels_last


class Card:
    """On the CPU: calls take two milliseconds, replays one, and channels_last is faster by half."""

    device = torch.device("cpu")

    def __init__(self, precision: str) -> None:
        pass

    calls: ClassVar[list[tuple[bool, bool, str]]] = []  # what cuDNN's settings were

    def eager_seconds(self, call: Callable[[], Any]) -> float:
        return 2 * self.replay_seconds(call)

    def replay_seconds(self, call: Callable[[], Any]) -> float:
        (result,) = call()
        cudnn = torch.backends.cudnn
        self.calls.append((cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision))
        return 1e-3 if result.is_contiguous(memory_format=LAST) else 2e-3

    def captured(self, call: Callable[[], Any]) -> Callable[[], Any]:
        results = call()
        return lambda: results

    def extra_bytes(self, call: Callable[[], Any]) -> int:
        return 3 << 20

    def peak_gflops(self, dtype: torch.dtype, threads: int) -> float:
        return 1e5

    def bandwidth_gbs(self, threads: int) -> float:
        return 3e3

    def describe(self) -> dict[str, Any]:
        return MACHINE | {"card": "a stand-in, sm_90"}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Card.calls.clear()
    monkeypatch.setattr(card, "Card", Card)
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.conv.fp32_precision
    yield
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.conv.fp32_precision) == before


def on_card(tmp_path: Path, *options: str, wrong: Callable[[Tensor], Tensor] | None = None) -> Path:
    output = tmp_path / "results.json"
    code = measure(StandIn(wrong), output, "--device", "cuda", *options)
    assert code == (1 if wrong else 0)
    return output


def test_calls_and_replays_are_passes_apart(tmp_path: Path) -> None:
    rows = rows_in(on_card(tmp_path, "--passes", "forward,grad_weight"))
    assert [(row["pass"], row["blocks_ms"][0]) for row in rows if row["layer"] == "small"] == [
        ("forward", 2.0),
        ("forward, replayed", 1.0),
        ("grad_weight", 2.0),
        ("grad_weight, replayed", 1.0),
    ]
    assert {row["extra_mib"] for row in rows} == {3.0}
    assert {row["threads"] for row in rows} == {0}


def test_each_side_has_its_faster_memory_format(tmp_path: Path) -> None:
    output = on_card(tmp_path, "--passes", "forward")
    rows = rows_in(output) + rows_in(output, ours=False)
    assert {row["side"] for row in rows} == {"triton", "conv2d", "deterministic"}
    assert all(row["path"].endswith(", channels_last") for row in rows)


@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_both_sides_have_the_same_precision(precision: str, tmp_path: Path) -> None:
    output = on_card(tmp_path, "--passes", "forward", "--precision", precision)
    assert {call[0] for call in Card.calls} == {True}  # cuDNN looks for its fastest algorithm
    assert {call[1] for call in Card.calls} == {True, False}
    assert {call[2] for call in Card.calls} == {precision}
    assert report.load(output)["settings"]["precision"] == precision


def test_half_precision_has_no_tf32(tmp_path: Path) -> None:
    output = on_card(tmp_path, "--passes", "forward", "--dtype", "float16")
    assert report.load(output)["settings"]["precision"] == "ieee"


def test_a_batch_is_sixteen_times_as_large(tmp_path: Path) -> None:
    small = rows_in(on_card(tmp_path, "--passes", "forward"))[0]
    output = tmp_path / "cpu.json"
    measure(StandIn(), output, "--passes", "forward")
    assert small["gflop"] == pytest.approx(16 * rows_in(output)[0]["gflop"])


def test_a_wrong_result_is_not_timed(tmp_path: Path) -> None:
    rows = rows_in(on_card(tmp_path, "--passes", "forward", wrong=torch.zeros_like))
    assert all(row["problem"] and not row["blocks_ms"] for row in rows)


@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_tf32_may_round_its_factors(precision: str, tmp_path: Path) -> None:
    """An error in the fourth digit is TF32's; in float32 it is a mistake."""
    stand_in = StandIn(lambda result: result * 1.0005)
    options = "--device", "cuda", "--passes", "forward", "--precision", precision
    code = measure(stand_in, tmp_path / "results.json", *options)
    assert code == (0 if precision == "tf32" else 1)


def test_the_report_names_the_card(tmp_path: Path) -> None:
    output = on_card(tmp_path, "--passes", "forward")
    assert report.main([str(output), "--output", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "- a stand-in, sm_90\n" in text
    assert "### triton, GPU, against conv2d" in text
    assert "### triton, GPU, against deterministic" in text
    assert "| class | forward | forward, replayed |" in text
    assert "GPU: peak 100000 GFLOP/s, memory 3000.0 GB/s, as probed" in text
    assert "float32 as tf32, the faster memory format of each side" in text


@pytest.mark.parametrize(
    "options",
    ["--threads 2", "--kernels reference", "--memory-format channels_last", "--peers jax"],
)
def test_options_of_the_cpu_are_refused(
    options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*options.split(), "--device", "cuda", "--output", str(tmp_path / "results.json")]
    assert exit_code_of("run.py", run.main, argv) == 2
    name = options.split()[0]
    sentence = f"run.py: {name} is for the CPU and cannot go with --device cuda"
    assert capsys.readouterr().err.startswith(sentence)


def test_other_passes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--passes", "forward,train_step", "--device", "cuda", "--output", str(tmp_path / "out")]
    assert exit_code_of("run.py", run.main, argv) == 2
    expected = "run.py: unknown pass for --device cuda 'train_step', known are forward, grad_input"
    assert capsys.readouterr().err.startswith(expected)


def test_a_tile_without_room_is_a_problem_of_its_row(tmp_path: Path) -> None:
    errors = pytest.importorskip("triton.runtime.errors")

    def too_large(result: Tensor) -> Tensor:
        raise errors.OutOfResources(1 << 20, 1 << 16, "shared memory")

    rows = rows_in(on_card(tmp_path, "--passes", "forward", wrong=too_large))
    assert all(row["problem"].startswith("OutOfResources: out of resource") for row in rows)


def test_a_baseline_may_run_in_one_format_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = sides.TORCH.single["forward"]

    def contiguous_alone(x: Any) -> Tensor:
        if not x.input.is_contiguous():
            raise RuntimeError("channels_last is not supported")
        return forward(x)

    monkeypatch.setitem(sides.TORCH.single, "forward", contiguous_alone)
    rows = rows_in(on_card(tmp_path, "--passes", "forward"), ours=False)
    assert all(row["path"].endswith(", nchw") and row["blocks_ms"] for row in rows)


def test_without_a_gpu_the_error_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    argv = ["--device", "cuda", "--output", str(tmp_path / "results.json")]
    assert exit_code_of("run.py", run.main, argv) == 2
    expected = "run.py: --device cuda needs a GPU, and PyTorch finds none\n"
    assert capsys.readouterr().err == expected
    assert not list(tmp_path.iterdir())


def test_settings_are_as_before_after_an_error() -> None:
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    with pytest.raises(RuntimeError, match="stops"), cuda.configured("ieee", deterministic=True):
        raise RuntimeError("stops")
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == before
