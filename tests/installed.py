"""Run by `make dist`: the package that is imported is the wheel's, and the wheel is complete."""

import sys
from pathlib import Path

import convgrad_ext


def check(environment: Path) -> None:
    package = Path(convgrad_ext.__file__).resolve().parent
    assert environment in package.parents, f"imported from {package}, not from {environment}"
    for name in ("py.typed", "_C.pyi"):
        assert (package / name).is_file(), f"the wheel has no {name}"
    assert list(package.glob("_C.*.so")), "the wheel has no extension module"


if __name__ == "__main__":
    check(Path(sys.argv[1]).resolve())
