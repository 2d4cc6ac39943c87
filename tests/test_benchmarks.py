"""A run of the benchmark: what it compares, what it refuses to time, what it leaves behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import stand_ins
import torch
from stand_ins import FLOAT, LAYERS, StandIn, measure, rows_in
from torch import Tensor

import convgrad_ext
from benchmarks import allocator, layers, results, run
from benchmarks.devices import BASELINES, Cpu
from benchmarks.errors import BadInputError, exit_code_of
from benchmarks.jobs import Job
from benchmarks.kernel_names import WINOGRAD
from benchmarks.layers import Layer
from benchmarks.operands import Form, make_operands
from benchmarks.passes import PASSES
from benchmarks.results import key_of
from benchmarks.settings import settings_from
from benchmarks.verification import WINOGRAD_GROWTH, Precision, verify_one

ROOT = Path(run.__file__).parent.parent
FAST = [name for name in convgrad_ext.available_kernels() if name != "reference"]
DOUBLE = Form(torch.float64, torch.contiguous_format, "cpu")
BROKEN: dict[str, Callable[[Tensor], Tensor]] = {
    "one element is off": lambda x: x.index_fill(3, torch.tensor(0), 1.0),
    "NaN": lambda x: x * float("nan"),
    "another size": lambda x: x[1:],
    "nothing computed": torch.zeros_like,
}


# The layers.


def test_every_class_has_its_file_and_the_quick_set_has_every_class() -> None:
    kinds = {name: layers.load_layers([name]) for name in layers.class_names()}
    assert {kind for kind, found in kinds.items() if {layer.kind for layer in found} == {kind}} == {
        "first", "dense3x3", "denseKxK", "1x1", "strided",
        "dilated", "grouped", "depthwise", "largekernel", "batch1",
    }  # fmt: skip
    names = [layer.name for layer in layers.load_layers()]
    assert len(names) == len(set(names)) == 47
    assert {layer.kind for layer in layers.load_layers(quick=True)} == set(kinds)


def test_effective_work_counts_the_pairs_inside_the_image() -> None:
    layer = Layer("dilated", "by hand", 2, 4, 5, 6, 6, 3, 2, 2, 2, 1, 2, 2)
    _, _, H_out, W_out = layer.output_size
    pairs = [
        (h_out, k_h, w_out, k_w)
        for h_out in range(H_out) for k_h in range(layer.K_h)
        for w_out in range(W_out) for k_w in range(layer.K_w)
    ]  # fmt: skip
    inside = sum(
        0 <= h * 2 - 2 + k_h * 2 < 5 and 0 <= w * 2 - 1 + k_w * 2 < 6 for h, k_h, w, k_w in pairs
    )
    multiply_adds_a_pair = layer.N * layer.C_out * layer.C_in // layer.groups
    assert inside < len(pairs)
    assert layer.gflop() == pytest.approx(2e-9 * multiply_adds_a_pair * len(pairs))
    assert layer.effective_gflop() == pytest.approx(2e-9 * multiply_adds_a_pair * inside)


# What is compared.


@pytest.mark.parametrize("name", [*BASELINES, "reference"])
@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_all_sides_of_a_pass_compute_the_same(layer: Layer, pass_name: str, name: str) -> None:
    operands = make_operands(layer, DOUBLE)
    expected = Job(layer, pass_name, "conv2d", DOUBLE, 1).side(Cpu(), operands).call()
    actual = Job(layer, pass_name, name, DOUBLE, 1).side(Cpu(), operands).call()
    torch.testing.assert_close(actual, expected)


def test_backends_are_named() -> None:
    operands = make_operands(LAYERS[0], FLOAT)
    names = [
        Job(LAYERS[0], "forward", each, FLOAT, 1).backend(Cpu(), operands) for each in BASELINES
    ]
    assert names[0] in dir(torch._C._ConvBackend)
    assert names[1:] == ["Slow2d", "unfold + matmul"]


# With Winograd and without.


@pytest.mark.parametrize("allowed", [False, True], ids=["forbidden", "allowed"])
@pytest.mark.parametrize("name", FAST)
def test_the_name_alone_says_whether_winograd_may_run(name: str, allowed: bool) -> None:
    device = Cpu()
    with convgrad_ext.allow_winograd(allowed):  # as the environment might
        for implementation, expected in ((name, False), (name + WINOGRAD, True)):
            with device.implementation(implementation).scope():
                assert convgrad_ext.winograd_allowed() is expected
        assert convgrad_ext.winograd_allowed() is allowed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_each_fast_kernel_is_followed_by_itself_with_winograd(dtype: torch.dtype) -> None:
    both = [name + suffix for name in FAST for suffix in ("", WINOGRAD)]
    assert Cpu().kernels(dtype) == (*both, "reference")


def test_half_precision_has_no_winograd() -> None:
    assert Cpu().kernels(torch.bfloat16) == ("reference",)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (FAST[0], FAST[0] + WINOGRAD)),
        (("--quick",), Cpu().kernels(torch.float32)),
        (("--kernels", f"reference,{FAST[0]}{WINOGRAD}"), ("reference", FAST[0] + WINOGRAD)),
        (("--dtype", "bfloat16"), ("reference",)),
    ],
    ids=["full", "quick", "named", "half"],
)
def test_kernels_of_a_run(options: tuple[str, ...], expected: tuple[str, ...]) -> None:
    arguments = run.parser().parse_args([*options, "--output", "results.json"])
    assert settings_from(arguments, Cpu()).kernels == expected


class TwoColumns(StandIn):
    def kernels(self, dtype: torch.dtype) -> tuple[str, ...]:
        return (FAST[0], FAST[0] + WINOGRAD)


def test_rows_with_winograd_are_of_layers_that_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere they would repeat the rows of the plain kernel. Alone, it has all rows."""
    layer = Layer("dense3x3", "wide", 1, 64, 26, 26, 64, 3, 3, 1, 1, 1, 1, 1)
    monkeypatch.setattr(stand_ins, "LAYERS", [*LAYERS, layer])
    options = "--passes", "forward,train_step", "--against", "conv2d"
    assert measure(TwoColumns(), tmp_path / "both.json", *options, "--laps", "2") == 0
    rows = rows_in(tmp_path / "both.json")
    plain, winograd = (
        [row for row in rows if row["kernel"] == name]
        for name in TwoColumns().kernels(torch.float32)
    )
    assert [(row["layer"], row["pass"]) for row in winograd] == [
        ("wide", "forward"),
        ("wide", "train_step"),
    ]
    assert len(plain) == 6
    assert {row["laps"] for row in rows} == {2}
    options = *options, "--kernels", FAST[0] + WINOGRAD
    assert measure(TwoColumns(), tmp_path / "alone.json", *options) == 0
    assert len(rows_in(tmp_path / "alone.json")) == 6


# Verification comes first.


@pytest.mark.parametrize("wrong", BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_not_timed(tmp_path: Path, wrong: Callable[[Tensor], Tensor]) -> None:
    output = tmp_path / "results.json"
    assert measure(StandIn(wrong), output, "--passes", "forward,grad_weight") == 1
    forward, grad_weight = rows_in(output)[:2]
    assert forward["problem"].startswith("output ")
    assert "best_ms" not in forward["ours"]
    assert forward["ratios"] == {}
    assert grad_weight["problem"] is None
    assert grad_weight["ours"]["best_ms"] == pytest.approx(1.0)


def test_what_raises_is_not_timed(tmp_path: Path) -> None:
    def refuse(output: Tensor) -> Tensor:
        raise NotImplementedError("not here\nat all")

    assert measure(StandIn(refuse), tmp_path / "results.json", "--passes", "forward") == 1
    assert rows_in(tmp_path / "results.json")[0]["problem"] == "it raises: not here"


@pytest.mark.parametrize("growth", [1.0, WINOGRAD_GROWTH])
@pytest.mark.parametrize("reduction", [9, 1000, 100_000])
def test_one_missing_product_shows_and_rounding_does_not(reduction: int, growth: float) -> None:
    generator = torch.Generator().manual_seed(reduction)
    a, b = (torch.randn(200, reduction, generator=generator) for _ in range(2))
    exact = (a.double() * b.double()).sum(1)
    in_order = (a * b).cumsum(1, dtype=torch.float32)[:, -1]
    missing = exact - (a[:, 0] * b[:, 0]).double()
    precision = Precision.of(torch.float32).grown(growth)
    assert verify_one("output", in_order, exact, reduction, precision).right
    assert not verify_one("output", missing.float(), exact, reduction, precision).right


def test_winograd_may_err_twice_as_much() -> None:
    """Its sums are larger on the way, and so is the rounding of each."""
    exact = torch.ones(4, dtype=torch.float64)
    allowed = 4 * torch.finfo(torch.float32).eps * 10  # of sums of 100 products of typical size 1
    off = (exact + 1.5 * allowed).float()
    precision = Precision.of(torch.float32)
    assert not verify_one("output", off, exact, 100, precision).right
    assert verify_one("output", off, exact, 100, precision.grown(WINOGRAD_GROWTH)).right
    further = (exact + 2.5 * allowed).float()
    assert not verify_one("output", further, exact, 100, precision.grown(WINOGRAD_GROWTH)).right


# What a run leaves.


class Interrupted(StandIn):
    """Ctrl-C while the memory of the third row is asked for."""

    def extra_bytes(self, job: Job) -> int | None:
        if len(self.measured) == 2 * 2:  # two sides a row
            raise KeyboardInterrupt
        return super().extra_bytes(job)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    options = "--passes", "forward,grad_input", "--against", "conv2d"
    assert measure(Interrupted(), output, *options) == 130
    left = results.load(output)
    assert [key_of(row)[:2] for row in left["rows"]] == [
        ("small", "forward"),
        ("small", "grad_input"),
    ]
    assert not left["complete"]
    second = StandIn()
    assert measure(second, output, *options, "--resume") == 0
    assert {job.layer.name for job in second.measured} == {"narrow"}
    document = results.load(output)
    assert document["complete"]
    assert document["rows"][:2] == left["rows"]
    assert len(document["rows"]) == 4


def test_wrong_rows_are_measured_again(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    assert measure(StandIn(torch.zeros_like), output, "--passes", "forward") == 1
    assert measure(StandIn(), output, "--passes", "forward", "--resume") == 0
    assert [row["problem"] for row in rows_in(output)] == [None, None]


def test_a_run_is_interrupted_between_laps(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    options = "--passes", "forward", "--against", "conv2d", "--laps"
    assert measure(StandIn(), output, *options, "1") == 0
    assert measure(StandIn(), output, *options, "3", "--resume") == 0
    assert [row["laps"] for row in rows_in(output)] == [3, 3]


def test_a_file_is_whole_even_if_writing_fails(tmp_path: Path) -> None:
    kept = results.Results.start(tmp_path / "results.json", {}, {})
    before = kept.path.read_text()
    with pytest.raises(ValueError, match="Out of range"):
        kept.put([{"layer": "", "pass": "", "threads": 1, "kernel": "", "figure": float("nan")}])
    assert kept.path.read_text() == before


def test_drift_of_the_probes_flags_rows_and_run(tmp_path: Path) -> None:
    class Slowing(StandIn):
        peak = 100.0

        def peak_gflops(self, dtype: torch.dtype, threads: int) -> float:
            self.peak -= 10.0
            return self.peak

    output = tmp_path / "results.json"
    assert measure(Slowing(), output, "--passes", "forward") == 0
    document = results.load(output)
    assert [row["drift"] for row in document["rows"]] == pytest.approx([10 / 90, 10 / 80])
    assert document["drift"] == pytest.approx((90 - 60) / 90)
    assert document["drifted"]


def test_a_baseline_against_itself(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    assert measure(StandIn(), output, "--kernels", "conv2d", "--passes", "forward") == 0
    assert [row["ratios"]["conv2d"] for row in rows_in(output)] == pytest.approx([1.0, 1.0])


# The commands.


def test_the_command_starts_anew_and_measures(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    options = "--quick --classes batch1 --passes forward --seconds 0.05 --threads 1 --output"
    command = [sys.executable, "benchmarks/run.py", *options.split(), str(output)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    document = results.load(output)
    assert document["complete"]
    assert {row["kernel"] for row in document["rows"]} == set(convgrad_ext.available_kernels())
    assert document["probes"][0]["fma_gflops"] > 1
    assert document["probes"][0]["bandwidth_gbs"] > 0.1
    if allocator.can_be_pinned():
        assert document["machine"]["allocator"].startswith("MALLOC_MMAP_MAX_=0")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--device tpu", "unknown device 'tpu', known are cpu, cuda"),
        ("--classes first,lost", "unknown class 'lost', known are 1x1, batch1,"),
        ("--dtype int8", "unknown dtype 'int8', known are float32, float64,"),
        ("--kernels gpu9", "unknown kernel for float32 'gpu9', known are "),
        ("--passes sideways", "unknown pass 'sideways', known are forward, "),
        ("--against mkl", "unknown baseline 'mkl', known are conv2d, aten, unfold"),
        ("--memory-format nhwc", "unknown memory format 'nhwc', known are nchw, channels_last"),
        ("--threads 1,some", "threads must be numbers from 1, as in 1,2, but got 'some'"),
        ("--threads 0", "threads must be numbers from 1, as in 1,2, but got '0'"),
        ("--laps 0", "laps must be a number from 1, but got 0"),
        ("--seconds 0", "seconds must be a positive number, but got 0"),
        ("--wings 2", "unrecognized arguments: --wings 2"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, options: str, sentence: str
) -> None:
    argv = [*options.split(), "--output", str(tmp_path / "results.json")]
    assert exit_code_of("run.py", run.main, argv) == 2
    assert capsys.readouterr().err.startswith(f"run.py: {sentence}")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_cuda_device_is_bad_input(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    argv = ["--device", "cuda", "--output", str(tmp_path / "results.json")]
    assert exit_code_of("run.py", run.main, argv) == 2
    assert "this PyTorch sees no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not a result file: it is no JSON"),
        ("[1]", "is not a result file of benchmarks/run.py"),
        (
            '{"format": "convgrad_ext benchmark", "version": 0}',
            "has version 0 of the result format",
        ),
    ],
)
def test_only_a_result_file_is_resumed(tmp_path: Path, content: str, sentence: str) -> None:
    output = tmp_path / "results.json"
    output.write_text(content)
    with pytest.raises(BadInputError, match=sentence):
        measure(StandIn(), output, "--resume")
    assert output.read_text() == content


def test_only_the_same_run_is_resumed(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    measure(StandIn(), output, "--passes", "forward")
    with pytest.raises(BadInputError, match=r"its settings differ in dtype, 'float32' there"):
        measure(StandIn(), output, "--passes", "forward", "--dtype", "float64", "--resume")


def test_an_output_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=r"cannot write .*results\.json: File exists"):
        measure(StandIn(), tmp_path / "file" / "results.json")
