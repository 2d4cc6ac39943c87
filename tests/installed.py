"""Run by `make dist`: the package that is imported is the wheel's, and the wheel is complete."""

import sys
from pathlib import Path

import convgrad_ext
from convgrad_ext.explain import AxisOfLayer, page


def check(environment: Path) -> None:
    package = Path(convgrad_ext.__file__).resolve().parent
    assert environment in package.parents, f"imported from {package}, not from {environment}"
    for name in ("py.typed", "_C.pyi"):
        assert (package / name).is_file(), f"the wheel has no {name}"
    assert list(package.glob("_C.*.so")), "the wheel has no extension module"
    layer = [AxisOfLayer(name, 4, 2, stride=2, padding=0, dilation=1) for name in ("row", "column")]
    assert page.page(layer).endswith("</html>\n"), "the wheel has not all of the page"


if __name__ == "__main__":
    check(Path(sys.argv[1]).resolve())
