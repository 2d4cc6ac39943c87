"""The files that a run of the benchmark leaves, and its commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernel_names import KERNELS
from stand_ins import StandIn, measure, rows_in

from benchmarks import BadInputError, exit_code_of, machine, report, run
from benchmarks.sides import Job

ROOT = Path(run.__file__).parent.parent


# What a run leaves.


class Interrupted(StandIn):
    """Ctrl-C while the memory of the third row is asked for."""

    def extra_bytes(self, job: Job) -> int | None:
        if len(self.measured) == 2 * 2:  # two sides a row
            raise KeyboardInterrupt
        return super().extra_bytes(job)


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    options = "--passes", "forward,grad_input"
    assert measure(Interrupted(), output, *options) == 130
    left = report.load(output)
    assert [(row["layer"], row["pass"]) for row in left["rows"] if row["ours"]] == [
        ("small", "forward"),
        ("small", "grad_input"),
    ]
    assert not left["complete"]
    second = StandIn()
    assert measure(second, output, *options, "--resume") == 0
    assert {job.layer.name for job in second.measured} == {"narrow"}
    document = report.load(output)
    assert document["complete"]
    assert document["rows"][:4] == left["rows"]
    assert len(document["rows"]) == 8


def test_wrong_rows_are_measured_again(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    assert measure(StandIn(torch.zeros_like), output, "--passes", "forward") == 1
    assert measure(StandIn(), output, "--passes", "forward", "--resume") == 0
    assert [row["problem"] for row in rows_in(output)] == [None, None]


def test_a_run_is_interrupted_between_laps(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    options = "--passes", "forward", "--laps"
    assert measure(StandIn(), output, *options, "1") == 0
    assert measure(StandIn(), output, *options, "3", "--resume") == 0
    assert [row["laps"] for row in rows_in(output)] == [3, 3]


def test_a_file_is_whole_even_if_writing_fails(tmp_path: Path) -> None:
    kept = run.Results(tmp_path / "results.json", {}, resume=False)
    before = kept.path.read_text()
    with pytest.raises(ValueError, match="Out of range"):
        kept.put({"layer": ""}, [{"figure": float("nan")}])
    assert kept.path.read_text() == before


def test_drift_of_the_probes_flags_the_run(tmp_path: Path) -> None:
    class Slowing(StandIn):
        peak = 100.0

        def peak_gflops(self, dtype: torch.dtype, threads: int) -> float:
            self.peak -= 10.0
            return self.peak

    output = tmp_path / "results.json"
    assert measure(Slowing(), output, "--passes", "forward") == 0
    document = report.load(output)
    assert report.drift_of(document) == pytest.approx((90 - 60) / 90)
    assert "its own limits moved by 33% during the run" in report.verdict(document)


def test_a_baseline_against_itself(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    assert measure(StandIn(), output, "--kernels", "conv2d", "--passes", "forward") == 0
    lines = report.lines_of(report.load(output)["rows"])
    assert [(line["kernel"], line["/ conv2d"]) for line in lines] == [("conv2d", 1.0)] * 2


# The commands.


def test_the_command_starts_anew_and_measures(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    options = "--quick --classes batch1 --passes forward --seconds 0.05 --threads 1 --output"
    command = [sys.executable, "benchmarks/run.py", *options.split(), str(output)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    document = report.load(output)
    assert document["complete"]
    assert {row["side"] for row in rows_in(output)} == {*KERNELS}
    assert document["probes"][0]["fma_gflops"] > 1
    assert document["probes"][0]["bandwidth_gbs"] > 0.1
    assert document["machine"]["allocator"] == "keeps what is freed"
    assert document["machine"]["environment"]["MALLOC_MMAP_MAX_"] == "0"


HAS_AVX2 = "avx2" in KERNELS


@pytest.mark.skipif(not HAS_AVX2, reason="this processor does not have AVX2")
def test_isa_holds_both_sides_to_one_instruction_set(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    options = "--quick --classes batch1 --passes forward --seconds 0.05 --threads 1 --laps 1"
    command = [sys.executable, "benchmarks/run.py", *options.split(), "--output", str(output)]
    subprocess.run([*command, "--isa", "avx2"], cwd=ROOT, capture_output=True, check=True)
    document = report.load(output)
    held = document["machine"]["environment"]
    assert held.items() >= machine.ISAS["avx2"].items()
    assert document["machine"]["instruction set"] == "AVX2"  # PyTorch's own loops
    assert document["settings"]["isa"] == "avx2"
    expected = {name for name in KERNELS if name != "avx512"}
    assert {row["side"] for row in rows_in(output)} == expected


def test_the_variables_of_isa_are_those_that_the_libraries_read() -> None:
    assert machine.ISAS["avx2"].items() >= {
        ("CONVGRAD_ISA", "avx2"),
        ("ONEDNN_MAX_CPU_ISA", "AVX2"),
        ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
    }


def test_an_unknown_isa_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--isa", "mmx", "--output", "results.json"]
    assert exit_code_of("run.py", run.command, argv) == 2
    assert capsys.readouterr().err.startswith("run.py: argument --isa: invalid choice: 'mmx'")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--classes first,lost", "unknown class 'lost', known are 1x1, batch1,"),
        ("--dtype int8", "argument --dtype: invalid choice: 'int8' (choose from "),
        ("--kernels gpu9", "unknown kernel for float32 'gpu9', known are "),
        ("--passes sideways", "unknown pass 'sideways', known are forward, "),
        ("--memory-format nhwc", "argument --memory-format: invalid choice: 'nhwc' (choose from "),
        ("--threads 1,some", "argument --threads: 'some' is no whole number from 1"),
        ("--threads 0", "argument --threads: '0' is no whole number from 1"),
        ("--peers mlas", "unknown peer 'mlas', known are onnxruntime, jax"),
        ("--laps 0", "argument --laps: '0' is no whole number from 1"),
        ("--seconds 0", "argument --seconds: '0' is no positive number"),
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


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "cannot read "),
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
