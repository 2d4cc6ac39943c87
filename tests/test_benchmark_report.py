"""The report: means as by hand, losses by name, changes only beyond the spread."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from stand_ins import MACHINE

from benchmarks import exit_code_of, report

ROOT = Path(report.__file__).parent.parent
SETTINGS = {
    "dtype": "float32",
    "memory_format": "nchw",
    "isa": None,
    "threads": [1, 2],
    "against": ["conv2d"],
    "set": "quick",
}
PROBE = {"when": "before", "fma_gflops": 100.0, "bandwidth_gbs": 10.0}
QUIET = {"other": 0.1, "before": 0.3, "after": 2.2}  # the run itself has two threads


def timed(milliseconds: float, spread: float = 0.01, best: float = 0.9) -> list[float]:
    """Blocks with this median, this spread and their best at `best` of the median."""
    blocks = 1 - spread / 2, 1.0, 1.0 + spread / 2
    return [milliseconds * block for block in (best, *blocks, 2 - best)]


def row(
    layer: str, ours: float | list[float], theirs: float | list[float] = 1.0, **others: Any
) -> list[dict[str, Any]]:
    """The two rows of a cell: our kernel and F.conv2d, by the milliseconds of a call."""
    common = {
        "layer": layer, "class": "dense3x3", "pass": "forward", "threads": 1, "problem": None,
        "gflop": 0.008, "effective_gflop": 0.005, "laps": 1, "extra_mib": 1.5,
    }  # fmt: skip
    sides = ("fast", True, "direct", ours), ("conv2d", False, "Mkldnn", theirs)
    return [
        common
        | {"side": side, "ours": is_ours, "path": path}
        | {"blocks_ms": times if isinstance(times, list) else timed(times)}
        | others
        for side, is_ours, path, times in sides
    ]


def document(*rows: list[dict[str, Any]], **others: Any) -> dict[str, Any]:
    return {
        "format": report.FORMAT,
        "version": report.VERSION,
        "settings": SETTINGS,
        "machine": MACHINE,
        "load": QUIET,
        "probes": [PROBE | {"threads": threads} for threads in (1, 2)],
        "complete": True,
        "rows": [side for sides in rows for side in sides],
        **others,
    }


class Undrawn:
    def savefig(self, path: Path, dpi: int) -> None:
        pass


def text_of(
    tmp_path: Path, *documents: dict[str, Any], file: str = "report.md", drawn: bool = False
) -> str:
    """The report of these documents, the newest first; drawing its picture takes a second."""
    paths = [tmp_path / f"{index}.json" for index, _ in enumerate(documents)]
    for path, content in zip(paths, documents, strict=True):
        path.write_text(json.dumps(content))
    with pytest.MonkeyPatch.context() as patch:
        if not drawn:
            patch.setattr(report, "draw_ratios", lambda ratios: Undrawn())
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
    figures = "1 | direct | 0.500 | 0.450 | 1% | 16.0 | 10.0 | 10.0% | 2.00 | 1.5 | 1.5 | Mkldnn"
    assert f"| a | forward | fast | {figures} |" in text


def test_rows_below_one_are_named(tmp_path: Path) -> None:
    text = text_of(tmp_path, document(row("a", ours=0.5), row("b", ours=1.25), row("c", ours=2.0)))
    section = text.partition("## Slower than conv2d")[2].partition("##")[0]
    assert "\n2 of 3 rows.\n" in section
    assert "| b | forward | fast | 1 | direct | 0.80 |\n" in section
    assert "| c | forward | fast | 1 | direct | 0.50 |\n" in section
    assert "| a |" not in section


def test_a_wrong_row_is_named_and_counts_nowhere(tmp_path: Path) -> None:
    kernel, baseline = row("bad", ours=1.0)
    wrong = [kernel | {"problem": "output is off", "blocks_ms": []}, baseline]
    text = text_of(tmp_path, document(row("a", ours=0.5), wrong))
    assert "| bad | forward | fast | 1 | **wrong**: output is off |" in text
    assert "**Rows that are wrong and were not timed: 1.**" in text
    assert "| all | 2.00 |" in text


def test_reasons_for_disbelief_stand_beside_the_table(tmp_path: Path) -> None:
    flawed, whole = document(row("a", ours=0.5), complete=False), document(row("a", ours=0.5))
    for file in ("report.md", "README-table.md"):
        assert "**The run is not complete.**" in text_of(tmp_path, flawed, file=file)
        assert "The run is not complete." not in text_of(tmp_path, whole, file=file)


@pytest.mark.parametrize(
    ("disturbance", "reason"),
    [
        pytest.param(
            {"load": QUIET | {"other": 2.0}},
            "it had other work for 2.0 processors when the run began",
            id="busy_before",
        ),
        pytest.param(
            {"load": QUIET | {"after": 3.1}},
            "its load average was 3.1 after a run of 2 threads",
            id="busy_meanwhile",
        ),
        pytest.param(
            {
                "probes": [
                    PROBE | {"threads": n, "fma_gflops": p} for n in (1, 2) for p in (70, 100)
                ]
            },
            "its own limits moved by 30% during the run",
            id="peak_moved",
        ),
        pytest.param(
            {
                "probes": [
                    PROBE | {"threads": n, "bandwidth_gbs": b} for n in (1, 2) for b in (9, 10)
                ]
            },
            "its own limits moved by 10% during the run",
            id="bandwidth_moved",
        ),
    ],
)
def test_the_verdict_says_why_the_machine_was_not_quiet(
    tmp_path: Path, disturbance: dict[str, Any], reason: str
) -> None:
    disturbed = document(row("a", ours=0.5), **disturbance)
    for file in ("report.md", "README-table.md"):
        assert f"**The machine was not quiet: {reason}." in text_of(tmp_path, disturbed, file=file)


def test_the_verdict_says_that_the_machine_was_quiet(tmp_path: Path) -> None:
    probes = [PROBE | {"threads": n, "fma_gflops": peak} for n in (1, 2) for peak in (96.0, 100.0)]
    quiet = document(row("a", ours=0.5), probes=probes)
    sentence = (
        "**The machine was quiet: its own limits moved by 4% during the run, its load average was "
        "0.3 before and 2.2 after it.**"
    )
    for file in ("report.md", "README-table.md"):
        assert sentence in text_of(tmp_path, quiet, file=file)


def test_a_baseline_that_took_no_part_is_told_with_its_reason(tmp_path: Path) -> None:
    absent = row("a", ours=0.5)[1] | {"side": "jax", "problem": "it is too old", "blocks_ms": []}
    text = text_of(tmp_path, document([*row("a", ours=0.5), absent]))
    assert "jax took no part in some rows: it is too old." in text
    assert "took no part" not in text_of(tmp_path, document(row("a", ours=0.5)))


def test_a_run_that_was_held_to_an_instruction_set_says_so(tmp_path: Path) -> None:
    held = document(row("a", ours=0.5), settings=SETTINGS | {"isa": "avx2"})
    assert "both sides held to avx2" in text_of(tmp_path, held, file="README-table.md")


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
        row("d", ours=timed(1.2, spread=0.3)),  # no more than it scatters
    )
    text = text_of(tmp_path, after, before)
    slower, faster = text.split("## ")[1].split("rows became slower")[1].split("became faster")
    assert "| b | forward | fast | 1 | 1.20 | 1.06 | 1.20 | 1.05 |" in slower
    assert "| c | forward | fast | 1 | 0.80 | 1.06 | 0.80 | 1.05 |" in faster
    assert "1 of 4 rows became slower" in text
    assert "1 of 4 rows became faster" in text


def test_a_slower_machine_is_no_regression(tmp_path: Path) -> None:
    before, after = document(row("a", ours=1.0)), document(row("a", ours=1.5, theirs=1.5))
    assert "0 of 1 rows became slower" in text_of(tmp_path, after, before)


def test_other_work_in_some_turns_is_no_regression(tmp_path: Path) -> None:
    """The median rose, but the best block shows that the code is as fast as it was."""
    before, after = row("a", ours=1.0), row("a", ours=timed(1.5, best=0.9 / 1.5))
    assert "0 of 1 rows became slower" in text_of(tmp_path, document(after), document(before))


def test_a_ratio_that_scatters_is_no_regression(tmp_path: Path) -> None:
    before = row("a", ours=[1.0] * 4, theirs=[1.0] * 4)
    after = row("a", ours=[1.2] * 4, theirs=[0.7, 1.3, 0.7, 1.3])
    assert "0 of 1 rows became slower" in text_of(tmp_path, document(after), document(before))


def test_doubts_about_the_older_run_are_told(tmp_path: Path) -> None:
    new = document(row("a", ours=1.0))
    old = document(row("a", ours=1.0), complete=False, load=QUIET | {"other": 2.0})
    text = text_of(tmp_path, new, old)
    assert "The older run: The run is not complete." in text
    assert "The older run: The machine was not quiet: it had other work" in text


def test_the_means_are_drawn(tmp_path: Path) -> None:
    text = text_of(tmp_path, document(row("a", ours=0.5)), drawn=True)
    assert "![ratios by class](ratios.png)" in text
    assert (tmp_path / "out" / "ratios.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot read "),
        ("nothing", "cannot read "),
        ("{}", "is not a result file of benchmarks/run.py"),
        (json.dumps(document(version=0)), "has version 0 of the result format"),
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


@pytest.mark.parametrize(
    ("setting", "before", "now"),
    [
        ("dtype", "float64", "float32"),
        ("memory_format", "channels_last", "nchw"),
        ("isa", "avx2", None),
    ],
)
def test_different_runs_are_not_compared(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, setting: str, before: str, now: str | None
) -> None:
    for name, value in (("new", now), ("old", before)):
        content = document(row("a", ours=1.0), settings=SETTINGS | {setting: value})
        (tmp_path / name).write_text(json.dumps(content))
    argv = [str(tmp_path / "new"), str(tmp_path / "old"), "--output", str(tmp_path)]
    assert exit_code_of("report.py", report.main, argv) == 2
    assert f"two runs of different {setting}: {before!r} and {now!r}" in capsys.readouterr().err


def test_several_older_runs_are_compared(tmp_path: Path) -> None:
    now, older, oldest = (document(row("a", ours=ours)) for ours in (1.0, 1.5, 0.5))
    text = text_of(tmp_path, now, older, oldest)
    assert text.index("## Compared with 1.json") < text.index("## Compared with 2.json")
    assert "1 of 1 rows became faster" in text
    assert "1 of 1 rows became slower" in text


def test_it_runs_as_a_script_and_as_a_module() -> None:
    for command in (["benchmarks/report.py"], ["-m", "benchmarks.report"]):
        done = subprocess.run(
            [sys.executable, *command, "lost.json", "--output", "out"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("benchmarks/report.py: cannot read lost.json: ")
        assert done.stderr.count("\n") == 1
