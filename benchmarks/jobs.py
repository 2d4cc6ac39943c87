"""One side of one row: what to call, on what, in a form that can be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.clock import Side
from benchmarks.layers import TINY, Layer
from benchmarks.operands import Form, Operands, make_operands
from benchmarks.passes import PASSES

if TYPE_CHECKING:
    from benchmarks.devices import Device


@dataclass(frozen=True)
class Job:
    layer: Layer
    pass_name: str
    implementation: str  # the name of a kernel or a baseline
    form: Form
    threads: int

    def tiny(self) -> Job:
        return replace(self, layer=TINY)

    def side(self, device: Device, operands: Operands | None = None) -> Side:
        operands = operands or make_operands(self.layer, self.form)
        implementation = device.implementation(self.implementation)
        run = PASSES[self.pass_name].prepare(implementation, operands)
        return Side(run, implementation.scope)

    def backend(self, device: Device, operands: Operands) -> str:
        """What runs; for the passes through autograd, what their forward runs."""
        implementation = device.implementation(self.implementation)
        with implementation.scope():
            return implementation.backend(operands, self.pass_name != "forward")
