"""The page as a file, which needs no browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from convgrad_ext.__main__ import main
from convgrad_ext.explain import AxisOfLayer, page

LARGEST = [AxisOfLayer(name, 12, 7, 1, 5, 1) for name in ("row", "column")]


@pytest.fixture(scope="module")
def text() -> str:
    return page.page(LARGEST)


def test_it_has_at_most_100_kilobytes(text: str) -> None:
    assert len(text.encode()) <= 100_000


def test_it_asks_for_nothing(text: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy"\s+content="([^"]+)"', text)[1]
    assert policy == ("default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'")
    assert not re.search(r"\b(src|href|srcset|action)=|url\(|@import|\bfetch\(|XMLHttp", text)


def test_no_script_ends_early(text: str) -> None:
    assert text.count("</script>") == text.count("<script") == 2
    assert "<!--" not in text


def test_the_library_comes_with_its_licence(text: str) -> None:
    assert "SPDX-License-Identifier: BSD-3-Clause" in text
    assert "Redistribution and use in source and binary forms" in text


def test_scripts_solve_nothing() -> None:
    """The geometry of the page is its two loops: no division, no remainder in meetings.js."""
    code = re.sub(r"//.*|/\*.*?\*/", "", page.read("meetings.js"), flags=re.DOTALL)
    assert "%" not in code
    assert "/" not in code
    assert "Math" not in code


def test_the_file_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "layer.html"
    assert main(["explain", "--output", str(path)]) == 0
    assert capsys.readouterr().out == f"wrote {path}\n"
    assert path.read_text().endswith("</html>\n")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--kernel", "9"],
            "a kernel of 9 taps and dilation 1 spans 9 rows, but the padded input has 7",
        ),
        (["--input", "13"], "--input must be at most 12 in a picture, but got 13"),
        (["--stride", "5"], "--stride must be at most 4 in a picture, but got 5"),
    ],
)
def test_bad_input_leaves_no_file(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "layer.html"
    path.write_text("before")
    assert main(["explain", *arguments, "--output", str(path)]) == 2
    assert capsys.readouterr().err == f"convgrad_ext explain: {message}\n"
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> str:
        raise RuntimeError("no text")

    monkeypatch.setattr(page, "read", fail)
    with pytest.raises(RuntimeError, match="no text"):
        main(["explain", "--output", str(tmp_path / "layer.html")])
    assert list(tmp_path.iterdir()) == []
