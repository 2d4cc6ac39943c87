"""Which convolution ran: two implementations that agree differ in their operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx
from torch.utils._python_dispatch import TorchDispatchMode

OURS = "convgrad_ext::conv2d"


class Operators(TorchDispatchMode):
    """The names of the convolutions' operators inside a with block, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if "conv" in name.partition("::")[2]:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def convolutions(call: Callable[[], Any]) -> list[str]:
    """The convolutions' operators that a call runs."""
    with Operators() as operators:
        call()
    return operators.names


class Graphs:
    """A backend of torch.compile that runs graphs unchanged and keeps the names of their calls."""

    def __init__(self) -> None:
        self.called: list[list[Any]] = []

    def __call__(self, graph: fx.GraphModule, example_inputs: list[Any]) -> fx.GraphModule:
        self.called.append([n.target for n in graph.graph.nodes if n.op == "call_function"])
        return graph
