"""Winograd wherever it can compute a pass: tests of its loops need no large layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kernel_names import FAST

from convgrad_ext import _C, allow_winograd


@contextmanager
def forced_winograd(forced: bool = True) -> Iterator[None]:
    """Its costs are zero, so that it always gains; with False, no pass takes it."""
    before = {isa: _C.costs(isa) for isa in FAST}
    for isa, costs in before.items():
        _C.set_costs(isa, {name: 0.0 for name in costs if not name.startswith("direct_")})
    try:
        with allow_winograd(forced):
            yield
    finally:
        for isa, costs in before.items():
            _C.set_costs(isa, costs)
