"""A run of the benchmark: what it compares, what it refuses to time, what it leaves behind."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from kernel_names import FAST, kernels_of
from stand_ins import FLOAT, LAYERS, StandIn, measure, rows_in
from torch import Tensor

import convgrad_ext
from benchmarks import exit_code_of, layers, machine, peers, run
from benchmarks.layers import Form, Layer, make_operands
from benchmarks.measure import job_of
from benchmarks.sides import PASSES, WINOGRAD, Job, kernel_names, on_kernel
from benchmarks.verify import WINOGRAD_GROWTH, problem_of

DOUBLE = Form(torch.float64, torch.contiguous_format)
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


@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_both_sides_of_a_pass_compute_the_same(layer: Layer, pass_name: str) -> None:
    operands = make_operands(layer, DOUBLE)
    expected = Job(layer, pass_name, "conv2d", DOUBLE, 1).side(operands).results()
    actual = Job(layer, pass_name, "reference", DOUBLE, 1).side(operands).results()
    torch.testing.assert_close(actual, expected)


def test_the_path_of_the_baseline_is_pytorchs_name() -> None:
    job = Job(LAYERS[0], "forward", "conv2d", FLOAT, 1)
    assert job.path(make_operands(LAYERS[0], FLOAT)) in dir(torch._C._ConvBackend)
    assert job.path(make_operands(LAYERS[0], DOUBLE)) == "Slow2d"  # oneDNN has none


@dataclass
class Plan:
    pass_name: str
    path: str


@pytest.mark.parametrize(
    ("pass_name", "path"),
    [
        ("forward", "one of 1"),
        pytest.param("grad_input", "one of 1+two of 1", id="phases_are_joined"),
        ("grad_weight", "two of 1"),
        ("train_step", "one of 1, one of 1+two of 1, two of 1"),
        pytest.param("per_sample", "one of 2, two of 2", id="images_become_groups"),
    ],
)
def test_paths_are_those_of_the_plans(
    monkeypatch: pytest.MonkeyPatch, pass_name: str, path: str
) -> None:
    def plans(input: Tensor, weight: Tensor, bias: None, *arguments: Any) -> list[Plan]:
        """As convgrad_ext.plans answers; the phases of grad_input take two paths."""
        groups = arguments[-1]
        assert input.size(1) == weight.size(1) * groups
        assert convgrad_ext.winograd_allowed()  # the plan is that of the side's own scope
        paths = (
            ("forward", "one"),
            ("grad_input", "one"),
            ("grad_input", "two"),
            ("grad_input", "one"),
        )
        return [
            Plan(name, f"{path} of {groups}") for name, path in (*paths, ("grad_weight", "two"))
        ]

    monkeypatch.setattr(convgrad_ext, "plans", plans)
    job = Job(LAYERS[0], pass_name, FAST[0] + WINOGRAD, FLOAT, 1)
    assert job.path(make_operands(LAYERS[0], FLOAT)) == path


# Other libraries.


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize(
    ("name", "pass_name"), [("onnxruntime", "forward"), *(("jax", name) for name in PASSES)]
)
def test_peers_compute_the_same(
    name: str, pass_name: str, layer: Layer, memory_format: torch.memory_format
) -> None:
    for package in peers.PEERS[name]:
        pytest.importorskip(package)
    form = Form(torch.float32, memory_format)
    operands = make_operands(layer, form)
    side = job_of(layer, pass_name, name, form, 1).side(operands)
    expected = Job(layer, pass_name, "conv2d", form, 1).side(operands).results()
    torch.testing.assert_close(side.results(), expected, rtol=1e-4, atol=1e-4)


def test_onnxruntime_takes_part_in_the_forward_in_float32_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")

    def refusal(pass_name: str, form: Form) -> str | None:
        try:
            job_of(LAYERS[0], pass_name, "onnxruntime", form, 1).side()
        except RuntimeError as problem:
            return str(problem)
        return None

    monkeypatch.setattr(machine, "has_flag", lambda name: True)
    monkeypatch.delenv("CONVGRAD_ISA", raising=False)
    assert refusal("forward", FLOAT) is None
    assert refusal("grad_input", FLOAT) == "it has the forward in float32 alone"
    assert refusal("forward", DOUBLE) == "it has the forward in float32 alone"
    monkeypatch.setenv("CONVGRAD_ISA", "avx2")
    assert refusal("forward", FLOAT) == "it cannot be held to AVX2"
    monkeypatch.setattr(machine, "has_flag", lambda name: False)
    assert refusal("forward", FLOAT) is None


def test_a_side_that_takes_no_part_is_a_row_with_its_reason(tmp_path: Path) -> None:
    for package in peers.PEERS["onnxruntime"]:
        pytest.importorskip(package)
    output = tmp_path / "results.json"
    assert measure(StandIn(), output, "--passes", "grad_input", "--peers", "onnxruntime") == 0
    conv2d, absent = rows_in(output, ours=False)[:2]
    assert (conv2d["problem"], len(conv2d["blocks_ms"]) >= 5) == (None, True)
    assert (absent["problem"], absent["blocks_ms"]) == ("it has the forward in float32 alone", [])


@pytest.mark.parametrize(
    ("peer", "package"), [("jax", "jax"), ("onnxruntime", "onnxruntime"), ("onnxruntime", "onnx")]
)
def test_a_missing_peer_is_named_with_its_package(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    peer: str,
    package: str,
) -> None:
    for name in {name for packages in peers.PEERS.values() for name in packages}:
        monkeypatch.setitem(sys.modules, name, None if name == package else torch)
    argv = ["--peers", peer, "--output", str(tmp_path / "results.json")]
    assert exit_code_of("run.py", run.main, argv) == 2
    sentence = f"the peer {peer} needs the package {package}: pip install {package}"
    assert capsys.readouterr().err == f"run.py: {sentence}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "against"),
    [
        (("--quick",), ["conv2d"]),
        (("--quick", "--peers", "onnxruntime"), ["conv2d", "onnxruntime"]),
        (("--peers",), ["conv2d", "onnxruntime", "jax"]),
    ],
    ids=["none", "one", "all"],
)
def test_baselines_of_a_run(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], against: list[str]
) -> None:
    monkeypatch.setattr(peers, "check_installed", lambda peer: None)
    arguments = run.parser().parse_args(["--output", "results.json", *options])
    assert run.settings_from(arguments)["against"] == against


# With Winograd and without.


@pytest.mark.parametrize("allowed", [False, True], ids=["forbidden", "allowed"])
@pytest.mark.parametrize("name", FAST)
def test_the_name_alone_says_whether_winograd_may_run(name: str, allowed: bool) -> None:
    with convgrad_ext.allow_winograd(allowed):  # as the environment might
        for kernel, expected in ((name, False), (name + WINOGRAD, True)):
            with on_kernel(kernel):
                assert convgrad_ext.winograd_allowed() is expected
        assert convgrad_ext.winograd_allowed() is allowed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_each_fast_kernel_is_followed_by_itself_with_winograd(dtype: torch.dtype) -> None:
    both = [name + suffix for name in kernels_of(dtype)[:-1] for suffix in ("", WINOGRAD)]
    assert kernel_names(dtype) == (*both, "reference")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (FAST[0], FAST[0] + WINOGRAD)),
        (("--quick",), kernel_names(torch.float32)),
        (("--kernels", f"reference,{FAST[0]}{WINOGRAD}"), ("reference", FAST[0] + WINOGRAD)),
    ],
    ids=["full", "quick", "named"],
)
def test_kernels_of_a_run(options: tuple[str, ...], expected: tuple[str, ...]) -> None:
    arguments = run.parser().parse_args([*options, "--output", "results.json"])
    assert run.settings_from(arguments)["kernels"] == [*expected]


class TwoColumns(StandIn):
    kernels = (FAST[0], FAST[0] + WINOGRAD)
    layers = (*LAYERS, Layer("dense3x3", "wide", 1, 64, 26, 26, 64, 3, 3, 1, 1, 1, 1, 1))


def test_rows_with_winograd_are_of_layers_that_use_it(tmp_path: Path) -> None:
    """Elsewhere they would repeat the rows of the plain kernel. Alone, it has all rows."""
    options = "--passes", "forward,train_step"
    assert measure(TwoColumns(), tmp_path / "both.json", *options, "--laps", "2") == 0
    rows = rows_in(tmp_path / "both.json")
    plain, winograd = ([row for row in rows if row["side"] == name] for name in TwoColumns.kernels)
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
    assert forward["blocks_ms"] == []
    assert grad_weight["problem"] is None
    assert min(grad_weight["blocks_ms"]) == pytest.approx(1.0)
    baselines = rows_in(output, ours=False)
    assert baselines[0]["blocks_ms"] == []  # there is nothing to time it against


def test_what_raises_is_not_timed(tmp_path: Path) -> None:
    def refuse(output: Tensor) -> Tensor:
        raise NotImplementedError("not here\nat all")

    assert measure(StandIn(refuse), tmp_path / "results.json", "--passes", "forward") == 1
    assert rows_in(tmp_path / "results.json")[0]["problem"] == "not here"


@pytest.mark.parametrize("growth", [1.0, WINOGRAD_GROWTH])
@pytest.mark.parametrize("reduction", [9, 1000, 100_000])
def test_one_missing_product_shows_and_rounding_does_not(reduction: int, growth: float) -> None:
    generator = torch.Generator().manual_seed(reduction)
    a, b = (torch.randn(200, reduction, generator=generator) for _ in range(2))
    exact = (a.double() * b.double()).sum(1)
    in_order = (a * b).cumsum(1, dtype=torch.float32)[:, -1]
    missing = exact - (a[:, 0] * b[:, 0]).double()
    assert problem_of("output", in_order, exact, reduction, growth) is None
    assert problem_of("output", missing.float(), exact, reduction, growth)


def test_winograd_may_err_twice_as_much() -> None:
    """Its sums are larger on the way, and so is the rounding of each."""
    exact = torch.ones(4, dtype=torch.float64)
    allowed = 4 * torch.finfo(torch.float32).eps * 10  # of sums of 100 products of typical size 1
    off = (exact + 1.5 * allowed).float()
    assert problem_of("output", off, exact, 100)
    assert problem_of("output", off, exact, 100, WINOGRAD_GROWTH) is None
    further = (exact + 2.5 * allowed).float()
    assert problem_of("output", further, exact, 100, WINOGRAD_GROWTH)


@pytest.mark.parametrize(
    ("dtype", "allowed"),
    [
        pytest.param(torch.float64, 2 * (4 * 10 + 1), id="what_counts_as_exact_errs_as_well"),
        pytest.param(torch.bfloat16, 1.6, id="half_precision_is_summed_in_float32"),
    ],
)
def test_rounding_of_other_types(dtype: torch.dtype, allowed: float) -> None:
    """For sums of 100 products of typical size 1, in units of the type's spacing at 1."""
    exact = torch.ones(4, dtype=torch.float64)
    for factor, right in ((0.9, True), (1.3, False)):
        off = (exact + factor * allowed * torch.finfo(dtype).eps).to(dtype)
        assert (problem_of("output", off, exact, 100) is None) is right
