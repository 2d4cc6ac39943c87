"""Several processes, each with a part of the tensors or of the batch.

Starting processes takes seconds, so that a few of them run all the cells of distributed_cells.py.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.tensor
from distributed_cells import CELLS
from sharded_cells import ROWS

import convgrad_ext
from convgrad_ext import sharding

HERE = Path(__file__).resolve().parent
SECONDS = 240  # for all cells, on a machine that does other things as well


def environment() -> dict[str, str]:
    """One thread a process, and no network but this machine's own."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def outcomes(folder: Path, shape: str, *names: str) -> dict[str, list[str]]:
    """The report of each process about each cell; a process that dies or hangs reports nothing."""
    processes = math.prod(map(int, shape.split("x")))
    logs = [(folder / f"{rank}.log").open("w") for rank in range(processes)]
    script = str(HERE / "distributed_cells.py")
    running = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(folder), shape, *names],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
        for rank, log in enumerate(logs)
    ]
    try:
        with suppress(subprocess.TimeoutExpired):  # the missing cells show it
            for process in running:
                process.wait(SECONDS)
    finally:
        for process in running:
            process.kill()
            process.wait()
        for log in logs:
            log.close()
    said = []
    for rank in range(processes):
        path, log_text = folder / f"{rank}.json", (folder / f"{rank}.log").read_text()
        found = json.loads(path.read_text()) if path.exists() else {}
        lost = f"process {rank} did not reach this cell:\n{log_text[-3000:]}"
        said.append({name: found.get(name, lost) for name in names or CELLS})
    return {name: [each[name] for each in said] for name in names or CELLS}


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return outcomes(tmp_path_factory.mktemp("two"), "2")


@pytest.mark.parametrize("name", CELLS)
def test_two_processes(name: str, two_processes: dict[str, list[str]]) -> None:
    """Values and gradients are those of one process with the whole tensors."""
    said = two_processes[name]
    assert said == ["", ""], "\n".join(said)


@pytest.mark.slow  # twice as many processes as the machine may have processors
@pytest.mark.parametrize("shape", ["4", "2x2"])
def test_four_processes(shape: str, tmp_path: Path) -> None:
    """Some have no element (5 channels make 2, 2, 1 and 0), or tensors are split along two axes."""
    names = ["placed_anyhow", "gradients_placed_anyhow", *(n for n in CELLS if n[:6] == "cases_")]
    found = outcomes(tmp_path, shape, *names)
    failed = [said for name in names for said in found[name] if said]
    assert not failed, "\n".join(failed)


def test_each_row_is_in_the_table() -> None:
    """The cells' table, in numbers, is equal to the table of the strategies."""
    axes = {"whole": "", "images": "N", "filters": "C_out", "channels": "C_in", "groups": "groups"}
    assert ROWS.keys() == axes.keys()
    for row, axis in axes.items():
        input, weight, bias, output = ROWS[row]
        forward = sharding.placements(axis, "output", ("input", "weight", "bias"))
        assert forward == [output, input, weight, bias], row


def test_import_leaves_dtensor_alone() -> None:
    """Importing DTensor takes longer than all of this package, and few programs need it."""
    program = (
        "import sys, torch, convgrad_ext\n"
        "convgrad_ext.Conv2d(1, 1, 1)(torch.zeros(1, 1, 1, 1))\n"
        "sys.exit('torch.distributed.tensor' in sys.modules or 'torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=SECONDS).returncode == 0


@pytest.mark.parametrize("missing", [ImportError, AttributeError])
def test_pytorch_with_another_dtensor(
    missing: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names are private ones of PyTorch. A release without them computes plain tensors.

    A list is none of the arguments that pass Python by.
    """
    calls = []

    def register() -> None:
        calls.append(missing)
        raise missing

    monkeypatch.setattr(sharding, "register", register)
    monkeypatch.setattr(sharding, "registration_tried", False)
    ones = torch.ones(1, 1, 2, 2)
    for _ in range(2):
        assert convgrad_ext.conv2d(ones, ones, stride=[1, 1]).item() == 4
    assert calls == [missing], "it is tried once"


def test_compiled_before_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile registers while it traces, and the graph has the operator alone."""
    graphs, calls = [], []

    def backend(graph: torch.fx.GraphModule, examples: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(sharding, "register", lambda: calls.append(len(graphs)))
    monkeypatch.setattr(sharding, "registration_tried", False)
    compiled = torch.compile(convgrad_ext.conv2d, fullgraph=True, backend=backend)
    for _ in range(2):
        compiled(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    assert calls == [0], "before the first graph was made"
    assert [n.target for g in graphs for n in g.graph.nodes if n.op.startswith("call")] == [
        torch.ops.convgrad_ext.conv2d
    ]


def test_example_under_torchrun() -> None:
    """Two processes train on the digits as one does; after one epoch most of them are right."""
    program = HERE.parent / "examples" / "train_digits_ddp.py"
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    running = subprocess.Popen(
        [sys.executable, "-m", *launcher, str(program), "--epochs", "1", "--accuracy", "0.6"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        start_new_session=True,  # a group, to be ended as one
    )
    try:
        printed, _ = running.communicate(timeout=SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 0, printed
    assert "2 processes" in printed
    assert "Not reached" not in printed
    assert "Warning" not in printed, printed


def test_example_without_torchrun() -> None:
    """The error names the command that starts it."""
    program = HERE.parent / "examples" / "train_digits_ddp.py"
    outside = {name: value for name, value in environment().items() if name != "RANK"}
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        env=outside,
        timeout=SECONDS,
    )
    assert done.returncode == 2
    assert "start it with torchrun --nproc-per-node 2" in done.stderr
