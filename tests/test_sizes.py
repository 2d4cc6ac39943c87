"""Short functions and short files: the median at most 15 lines, none over 60, no file over 400."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from sizes import FOLDERS, files, functions

PYTHON_TEXT = '''\
import functools


def three(a):
    """A docstring

    counts for nothing.
    """
    # A comment does.
    return a


class Layer:
    @functools.cache
    def two(self, text="def no(): {"):  # a brace and a word in a string
        return text

    def nested(self):
        def inner():
            return 1

        return inner
'''

CPP_TEXT = """\
#include <vector>

namespace outer {
namespace {

// void no() { a comment
struct Pair {
  Pair(int a, int b) : first(a), second{b} {
    check();
  }
  int sum() const { return first + second; }
  int first, second = {3};
};

template <typename T>
__attribute__((target("avx2,fma"))) T
four(const std::vector<T>& values) {
  const auto visit = [&](T v) { return v; };
  return visit(values[0]);
}

}  // namespace
}  // namespace outer
"""


SCRIPT_TEXT = """\
// function no() {} in a comment
function three(a) {
  return `${a} {`;
}

const four = (b) => {
  const inner = () => b;
  return inner();
};
"""


@pytest.mark.parametrize("ending", ["py", "pyi"])
def test_functions_of_a_known_python_text(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"known.{ending}"
    path.write_text(PYTHON_TEXT)
    found = {f.name: f.lines for f in functions(path)}
    assert found == {"three": 3, "two": 2, "nested": 5, "inner": 2}


@pytest.mark.parametrize("ending", ["cpp", "h", "inl"])
def test_functions_of_a_known_cpp_text(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"known.{ending}"
    path.write_text(CPP_TEXT)
    found = {f.name.split("::")[-1]: f.lines for f in functions(path)}
    assert found == {"Pair": 3, "sum": 1, "four": 4}


def test_functions_of_a_known_script(tmp_path: Path) -> None:
    path = tmp_path / "known.js"
    path.write_text(SCRIPT_TEXT)
    found = {f.name: f.lines for f in functions(path)}
    assert found["three"] == 3
    assert found["four"] == 4


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_has_files(folder: str) -> None:
    """An empty folder would pass the tests below."""
    assert list(files(folder))


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_median_function_has_at_most_15_lines(folder: str) -> None:
    assert median(f.lines for path in files(folder) for f in functions(path)) <= 15


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_function_has_more_than_60_lines(folder: str) -> None:
    assert [str(f) for path in files(folder) for f in functions(path) if f.lines > 60] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_has_more_than_400_lines(folder: str) -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in files(folder)}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
