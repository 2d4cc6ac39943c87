"""The report: means as by hand, losses by name, changes only beyond the spread, pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from stand_ins import MACHINE

from benchmarks import report, results
from benchmarks.errors import exit_code_of

ROOT = Path(report.__file__).parent.parent
SETTINGS = {
    "device": "cpu",
    "dtype": "float32",
    "memory_format": "nchw",
    "tf32": False,
    "threads": [1, 2],
    "against": ["conv2d"],
    "quick": True,
}
PROBE = {"when": "before", "fma_gflops": 100.0, "bandwidth_gbs": 10.0}


def timed(milliseconds: float, spread: float = 0.01) -> dict[str, Any]:
    return {
        "backend": "Mkldnn",
        "problem": None,
        "best_ms": milliseconds * 0.9,
        "median_ms": milliseconds,
        "spread": spread,
        "gflops": 8 / milliseconds,
        "effective_gflops": 5 / milliseconds,
        "extra_mib": 1.5,
        "error": 2e-3,
    }


def row(layer: str, ours: float, theirs: float = 1.0, **others: Any) -> dict[str, Any]:
    return {
        "layer": layer,
        "class": "dense3x3",
        "pass": "forward",
        "threads": 1,
        "kernel": "fast",
        "problem": None,
        "effective_gflop": 0.005,
        "megabytes": 2.0,
        "drift": 0.0,
        "ours": timed(ours),
        "baselines": {"conv2d": timed(theirs)},
        "ratios": {"conv2d": theirs / ours},
        "ratio_spreads": {"conv2d": 0.02},
        **others,
    }


def document(*rows: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {
        "format": results.FORMAT,
        "version": results.VERSION,
        "settings": SETTINGS,
        "machine": MACHINE,
        "load": 0.1,
        "probes": [PROBE | {"threads": threads} for threads in (1, 2)],
        "drift": 0.0,
        "drifted": False,
        "complete": True,
        "rows": list(rows),
        **others,
    }


def text_of(tmp_path: Path, *documents: dict[str, Any], file: str = "report.md") -> str:
    """What the report of these documents, the newest first, says."""
    paths = [tmp_path / f"{index}.json" for index, _ in enumerate(documents)]
    for path, content in zip(paths, documents, strict=True):
        path.write_text(json.dumps(content))
    assert report.main([*map(str, paths), "--output", str(tmp_path / "out")]) == 0
    return (tmp_path / "out" / file).read_text()


def test_means_are_geometric_by_class_and_pass(tmp_path: Path) -> None:
    rows = [
        row("a", ours=0.5),  # 2
        row("b", ours=0.125),  # 8: the mean of both is 4, not 5
        row("c", ours=4.0, **{"class": "1x1"}),  # 0.25: the mean of all is the cube root of 4
        row("a", ours=2.0, **{"pass": "grad_weight"}),
    ]
    for file in ("report.md", "README-table.md"):
        lines = text_of(tmp_path, document(*rows), file=file).splitlines()
        assert "| class | forward | grad_weight |" in lines
        assert "| dense3x3 | 4.00 | 0.50 |" in lines
        assert "| 1x1 | 0.25 | - |" in lines
        assert "| all | 1.59 | 0.50 |" in lines


def test_the_layers_line_has_every_figure(tmp_path: Path) -> None:
    text = text_of(tmp_path, document(row("a", ours=0.5)))
    figures = "1 | 0.500 | 0.450 | 1% | 16.0 | 10.0 | 10.0% | 2.00 | 1.5 | 1.5 | Mkldnn"
    assert f"| a | forward | fast | {figures} |" in text


def test_half_precision_shows_the_errors_of_both_sides(tmp_path: Path) -> None:
    half = document(row("a", ours=0.5), settings=SETTINGS | {"dtype": "float16"})
    assert "| error | error conv2d |" in text_of(tmp_path, half)
    assert "| 2.0e-03 | 2.0e-03 | Mkldnn |" in text_of(tmp_path, half)


def test_rows_below_one_are_named(tmp_path: Path) -> None:
    text = text_of(tmp_path, document(row("a", ours=0.5), row("b", ours=1.25), row("c", ours=2.0)))
    assert "fast, 1 thread: 2 of 3 rows." in text
    assert "- forward: b 0.80, c 0.50\n" in text


def test_a_wrong_row_is_named_and_counts_nowhere(tmp_path: Path) -> None:
    wrong = row("bad", ours=1.0, problem="output is off", ours_=None) | {
        "ours": {"backend": "any", "problem": "output is off"},
        "ratios": {},
    }
    text = text_of(tmp_path, document(row("a", ours=0.5), wrong))
    assert "| bad | forward | fast | 1 | **wrong**: output is off |" in text
    assert "**Rows that are wrong and were not timed: 1.**" in text
    assert "| all | 2.00 |" in text


@pytest.mark.parametrize(
    ("flaw", "sentence"),
    [
        ({"drifted": True, "drift": 0.3}, "The machine's own limits moved by 30% during the run"),
        (
            {"rows": [row("a", ours=0.5) | {"ours": timed(0.5) | {"page_faults_per_call": 300.0}}]},
            "Rows whose calls had page faults, which take time: 1.",
        ),
        ({"complete": False}, "The run is not complete."),
        ({"load": 2.0}, "The machine had other work when the run began, for 2.0 processors."),
    ],
)
def test_reasons_for_disbelief_stand_beside_the_table(
    tmp_path: Path, flaw: dict[str, Any], sentence: str
) -> None:
    flawed = document(row("a", ours=0.5), **flaw)
    assert sentence in text_of(tmp_path, flawed)
    assert sentence in text_of(tmp_path, flawed, file="README-table.md")
    assert sentence not in text_of(tmp_path, document(row("a", ours=0.5)))


def test_conditions_stand_beside_the_table(tmp_path: Path) -> None:
    text = text_of(tmp_path, document(row("a", ours=0.5)), file="README-table.md")
    for part in (
        "a stand-in, 2 processors",
        "torch ",
        "peak 100 GFLOP/s",
        "float32, nchw",
        "quick",
    ):
        assert part in text


def test_the_same_run_has_no_changes(tmp_path: Path) -> None:
    same = document(row("a", ours=0.5), row("b", ours=1.25))
    text = text_of(tmp_path, same, deepcopy(same))
    assert "0 of 2 rows became slower beyond the spread." in text
    assert "0 of 2 rows became faster beyond the spread." in text


def test_changes_beyond_the_spread_are_named(tmp_path: Path) -> None:
    before = document(*(row(name, ours=1.0) for name in "abcd"))
    after = document(
        row("a", ours=1.05),  # within
        row("b", ours=1.2),
        row("c", ours=0.8),
        row("d", ours=1.2) | {"ours": timed(1.2, spread=0.3)},  # no more than it scatters
    )
    text = text_of(tmp_path, after, before)
    slower, faster = text.split("## ")[1].split("rows became slower")[1].split("became faster")
    assert "| b | forward | fast | 1 | x 1.20 | x 1.06 | x 1.20 | x 1.07 |" in slower
    assert "| c | forward | fast | 1 | x 0.80 | x 1.06 | x 0.80 | x 1.07 |" in faster
    assert "1 of 4 rows became slower" in text
    assert "1 of 4 rows became faster" in text


def test_a_slower_machine_is_no_regression(tmp_path: Path) -> None:
    before, after = document(row("a", ours=1.0)), document(row("a", ours=1.5, theirs=1.5))
    assert "0 of 1 rows became slower" in text_of(tmp_path, after, before)


def test_other_work_in_some_turns_is_no_regression(tmp_path: Path) -> None:
    """The median rose, but the best block shows that the code is as fast as it was."""
    before, after = row("a", ours=1.0), row("a", ours=1.5)
    after["ours"]["best_ms"] = before["ours"]["best_ms"]
    assert "0 of 1 rows became slower" in text_of(tmp_path, document(after), document(before))


def test_doubts_about_the_older_run_are_told(tmp_path: Path) -> None:
    new, old = document(row("a", ours=1.0)), document(row("a", ours=1.0), complete=False)
    assert "The older run: The run is not complete." in text_of(tmp_path, new, old)


def test_pictures_are_drawn_of_what_was_measured(tmp_path: Path) -> None:
    one = row("a", ours=0.5)
    text = text_of(tmp_path, document(one, row("a", ours=0.3, threads=2)))
    for name in ("roofline", "ratios", "threads"):
        assert f"![{name}]({name}.png)" in text
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "threads.png" not in text_of(tmp_path, document(one))
    assert not (tmp_path / "out" / "threads.png").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot read "),
        ("nothing", "is not a result file: it is no JSON"),
        ("{}", "is not a result file of benchmarks/run.py"),
        (json.dumps(document(version=0)), "has version 0 of the result format and version 2 is"),
        (json.dumps(document()), "has no timed rows"),
    ],
)
def test_bad_files_are_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str | None, sentence: str
) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    assert exit_code_of("report.py", report.main, [str(path), "--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_different_runs_are_not_compared(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, dtype in (("new", "float32"), ("old", "float64")):
        content = document(row("a", ours=1.0), settings=SETTINGS | {"dtype": dtype})
        (tmp_path / name).write_text(json.dumps(content))
    argv = [str(tmp_path / "new"), str(tmp_path / "old"), "--output", str(tmp_path)]
    assert exit_code_of("report.py", report.main, argv) == 2
    assert "two runs of different dtype: 'float64' and 'float32'" in capsys.readouterr().err


def test_it_runs_as_a_script_and_as_a_module() -> None:
    for command in (["benchmarks/report.py"], ["-m", "benchmarks.report"]):
        done = subprocess.run(
            [sys.executable, *command, "lost.json", "--output", "out"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (
            2,
            "benchmarks/report.py: cannot read lost.json: No such file or directory\n",
        )
