"""The file of an explanation: what it may be, and that it is written whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from convgrad_ext.explain.layer import AxisOfLayer

# Of one axis: more would be too small to read on a slide.
MOST = {"input": 12, "kernel": 7, "stride": 4, "padding": 5, "dilation": 4}


def check_limits(axes: Sequence[AxisOfLayer]) -> None:
    """Raises a ValueError that names the argument if a picture has no room for the layer."""
    for axis in axes:
        for name, most in MOST.items():
            if getattr(axis, name) > most:
                raise ValueError(
                    f"--{name} must be at most {most} in a picture, but got {getattr(axis, name)}"
                )


def replace(path: Path, write: Callable[[Path], None]) -> None:
    """Writes to a file beside the path, which takes its place when it is complete.

    Raises:
        ValueError: "--output 'nowhere/layer.png' cannot be written: No such file or directory".
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=path.suffix, delete=False) as file:
            temporary = Path(file.name)
        try:
            write(temporary)
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ValueError(f"--output '{path}' cannot be written: {error.strerror}") from None
