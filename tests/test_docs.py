"""The pages name files that exist, run, and show the output that explain_plan prints."""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import load_inline

import convgrad_ext

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "convgrad_ext", "csrc", "docs", "examples", "tests")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./*-]*[\w/*]")
BARE_NAME = re.compile(r"`([\w-]+\.(?:cpp|h|inl|md|py))`")  # of a file whose folder the text names

# The numbers of the other lines depend on the instruction set or on the cache sizes.
PORTABLE = re.compile(r"\w+(, \d+ phases)?: \w+$|  (reason|chain, channels|taps that meet padding)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_of_a_page_exists(page: Path) -> None:
    paths = set(PATH.findall(page.read_text()))
    assert [path for path in sorted(paths) if not any(ROOT.glob(path))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_name_of_a_page_exists(page: Path) -> None:
    names = set(BARE_NAME.findall(page.read_text()))
    known = {file.name for folder in FOLDERS for file in (ROOT / folder).rglob("*.*")}
    assert names <= known | {file.name for file in ROOT.iterdir()}


def test_the_page_shows_the_plan_that_is_printed() -> None:
    examples = doctest.DocTestParser().get_examples((ROOT / "docs" / "architecture.md").read_text())
    assert examples[-1].source.startswith("convgrad_ext.explain_plan(")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec("".join(example.source for example in examples), {})
    assert without_processor(printed.getvalue()) == without_processor(examples[-1].want)


# A page whose examples were not found would pass: the least number that each has.
RUN = {
    "faq.md": 50,
    "geometry.md": 25,
    "gradients.md": 40,
    "howto.md": 50,
    "limits.md": 15,
    "quickstart.md": 30,
}


# gradcheck warns of float32, which the FAQ shows to fail.
@pytest.mark.filterwarnings("ignore:Input #")
@pytest.mark.parametrize("page", RUN)
def test_the_code_of_a_page_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the helpers beside it."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    found = doctest.testfile(str(ROOT / "docs" / page), module_relative=False)
    assert found.failed == 0
    assert found.attempted >= RUN[page]


@pytest.mark.slow
def test_the_cpp_of_the_questions_calls_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It compiles as an extension, and its result is recorded."""
    page = (ROOT / "docs" / "faq.md").read_text()
    (block,) = re.findall(r"^```cpp\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    tools = Path(sys.executable).parent  # ninja is there
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    module = load_inline("of_the_page", block, functions=["strided"], build_directory=str(tmp_path))
    input = torch.arange(50.0).view(1, 2, 5, 5)  # odd: each of the four sides is read
    weight = torch.arange(54.0).view(3, 2, 3, 3).requires_grad_()
    expected = convgrad_ext.conv2d(input, weight, stride=2, padding=1)
    actual = module.strided(input, weight)
    assert torch.equal(actual, expected)
    (grad,) = torch.autograd.grad(actual.sum(), weight)
    assert torch.equal(grad, torch.autograd.grad(expected.sum(), weight)[0])


def without_processor(text: str) -> list[str]:
    return [
        line if PORTABLE.match(line) else re.sub(r"\d+", "N", line) for line in text.splitlines()
    ]
