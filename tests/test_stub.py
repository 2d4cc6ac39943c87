"""The stub of _C, the docstrings' parts and their messages agree with the package."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import convgrad_ext
from convgrad_ext import _C

PACKAGE = Path(convgrad_ext.__file__).parent
STUB = ast.parse((PACKAGE / "_C.pyi").read_text())

# Only the stub is checked: torch's own stubs would take twenty seconds more.
MYPY = "[mypy]\nfollow_imports = skip\n"
ALLOWED = (
    # pybind11's classes have its own metaclass, which no stub names.
    r"convgrad_ext\._C\.((OutputTile)?Axis|Walk)",
    r"convgrad_ext\._C\.(OutputTileAxis|Walk).__init__",  # made by an Axis alone
    r"convgrad_ext\._C\.(Kernel|Plan)Description",  # types of dicts, for the checker
    r"convgrad_ext\._C\.Memory",  # the name of a type
)


def test_stub_has_what_the_module_has(tmp_path: Path) -> None:
    """Everything and nothing else. An entry of ALLOWED that is not needed fails as well."""
    config, allowlist = tmp_path / "mypy.ini", tmp_path / "allowlist"
    config.write_text(MYPY)
    allowlist.write_text("\n".join(ALLOWED))
    options = ["--mypy-config-file", str(config), "--allowlist", str(allowlist)]
    run = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "convgrad_ext._C", *options],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions and methods of the stub by their dotted names."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.decorator_list:
                    yield f"{node.name}.{method.name}", method


def arguments(function: ast.FunctionDef) -> tuple[list[str], list[str]]:
    """Names, and the defaults of the last of them."""
    names = [argument.arg for argument in function.args.args]
    return names, [ast.unparse(default) for default in function.args.defaults]


@pytest.mark.parametrize(
    ("name", "declared"), [pytest.param(n, f, id=n) for n, f in functions(STUB)]
)
def test_stub_has_the_modules_arguments(name: str, declared: ast.FunctionDef) -> None:
    """stubtest cannot see them; pybind11 writes them on the first line of each docstring."""
    found = _C
    for part in name.split("."):
        found = getattr(found, part)
    (written,) = ast.parse(f"def {found.__doc__.strip().splitlines()[0]}: ...").body
    assert isinstance(written, ast.FunctionDef)
    assert arguments(declared) == arguments(written)


# Docstrings

PUBLIC = [name for name in convgrad_ext.__all__ if not name.endswith("Function")]
FUNCTIONS = ["conv2d", "conv2d_input", "conv2d_weight", "convert", "revert"]


def docstring(name: str) -> str:
    return getattr(convgrad_ext, name).__doc__


def flat(text: str) -> str:
    """Without the breaks of lines."""
    return " ".join(text.split())


def test_everything_public_is_there() -> None:
    assert sorted(convgrad_ext.__all__) == list(convgrad_ext.__all__)
    assert all(hasattr(convgrad_ext, name) for name in convgrad_ext.__all__)


@pytest.mark.parametrize("name", convgrad_ext.__all__)
def test_everything_public_has_a_docstring(name: str) -> None:
    assert docstring(name).splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_have_an_example_and_a_source(name: str) -> None:
    lines = [line.strip() for line in docstring(name).splitlines()]
    assert "Example:" in lines
    assert lines[lines.index("Example:") + 1].startswith(">>> import")
    assert any(line.startswith("Source: ") for line in lines)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_tell_arguments_result_and_errors(name: str) -> None:
    lines = [line.strip() for line in docstring(name).splitlines()]
    assert [line for line in lines if line in ("Args:", "Returns:", "Raises:")] == [
        "Args:",
        "Returns:",
        "Raises:",
    ]


@pytest.mark.parametrize("name", ["conv2d", "conv2d_input", "conv2d_weight", "Conv2d"])
def test_shapes_are_told(name: str) -> None:
    assert "(N, C_in, H_in, W_in)" in flat(docstring(name))
    assert "(N, C_out, H_out, W_out)" in flat(docstring(name))


@pytest.mark.parametrize("name", ["Conv2d", "use_kernel", "LazyConv2d"])
def test_errors_are_told(name: str) -> None:
    assert "Raises:" in docstring(name) or "errors: as :class:`Conv2d`" in docstring(name)


def padded_layer() -> nn.Module:
    return nn.Sequential(convgrad_ext.Conv2d(1, 1, 2, padding=((1, 0), (1, 0))))


def ones(*size: int) -> torch.Tensor:
    return torch.ones(size)


DOCUMENTED = [
    ("conv2d", lambda: convgrad_ext.conv2d(ones(2, 3, 5, 5), ones(6, 4, 3, 3))),
    ("conv2d", lambda: convgrad_ext.conv2d(ones(2, 3, 5, 5), ones(6, 3, 3, 3), stride=1.5)),
    (
        "conv2d_input",
        lambda: convgrad_ext.conv2d_input((1, 1, 4, 4), ones(1, 1, 2, 2), ones(1, 1, 3, 3), 2),
    ),
    ("Conv2d", lambda: convgrad_ext.Conv2d(3, 4, 3, groups=2)),
    ("Conv2d", lambda: convgrad_ext.Conv2d(3, 4, 3, padding=((1, 2), (0.5, 1)))),
    ("convert", lambda: convgrad_ext.convert(ones(1))),
    ("revert", lambda: convgrad_ext.revert(ones(1))),
    ("revert", lambda: convgrad_ext.revert(padded_layer())),
]


@pytest.mark.parametrize(
    ("name", "call"),
    [pytest.param(name, call, id=f"{name}-{i}") for i, (name, call) in enumerate(DOCUMENTED)],
)
def test_documented_messages_are_the_real_ones(name: str, call: Callable[[], object]) -> None:
    """Word by word, in quotation marks; that of use_kernel names the kernels of this processor."""
    with pytest.raises((TypeError, ValueError, RuntimeError)) as refused:
        call()
    assert f'"{flat(str(refused.value))}"' in flat(docstring(name))
