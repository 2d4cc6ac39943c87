"""What a compiler sees of the operators on CUDA. Tensors without data claim a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.source import ConstantSource
from torch._functorch.aot_autograd import aot_function
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

pytest.importorskip("triton", reason="the kernels need Triton: pip install triton")

from triton import runtime
from triton.backends.compiler import GPUTarget

import convgrad_ext
from convgrad_ext.arguments import as_parameters
from convgrad_ext.cases import CASES, Case
from convgrad_ext.plans import PASSES
from convgrad_ext.triton import OPERATORS, register, tiles, tuning

if not torch.version.cuda:
    register("CUDA")  # as the package does where PyTorch has CUDA

LAYER = Case("layer", "", channels=(32, 32), image=(8, 8), kernel=(3, 3), stride=2, padding=1)
ours = torch.ops.convgrad_ext


def passes_of(case: Case, x: Tensor, w: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    params = as_parameters(x.shape, w.shape, **case.params)
    return (
        ours.conv2d(x, w, None, *params),
        ours.conv2d_input(x.shape, w, y, *params),
        ours.conv2d_weight(x, w.shape, y, *params),
    )


def operands(case: Case, memory_format: torch.memory_format, **kwargs: Any) -> list[Tensor]:
    input, weight, _ = case.tensors(torch.float32)
    output = case.torch_conv2d(input, weight)
    return [
        torch.empty(t.shape, **kwargs).to(memory_format=memory_format)
        for t in (input, weight, output)
    ]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_without_data_are_those_of_the_cpu(
    case: Case, memory_format: torch.memory_format
) -> None:
    """Size, strides and dtype; the device is that of the operands."""
    expected = passes_of(case, *operands(case, memory_format))
    with FakeTensorMode():
        results = passes_of(case, *operands(case, memory_format, device="cuda:1"))
    for result, real in zip(results, expected, strict=True):
        assert isinstance(result, FakeTensor)
        assert (result.shape, result.stride(), result.dtype) == (
            real.shape,
            real.stride(),
            real.dtype,
        )
        assert result.device == torch.device("cuda:1")


class TracedError(Exception):
    """Ends a compilation, with its graph."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        self.nodes = [*graph.graph.nodes]

    def named(self, part: str) -> list[str]:
        names = [str(node.target) for node in self.nodes]
        return [name for name in names if part in name]

    def cloned(self) -> list[str]:
        """What the graph copies before a kernel, because the kernel writes to it.

        The table as well: the places of pixels come from it, and the analysis goes no further.
        """
        clones = [node.kwargs.get("tensors_to_clone", ()) for node in self.nodes]
        return [name for names in clones for name in names if name != "table"]


def stop(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Any:
    raise TracedError(graph)


def traced(case: Case, memory_format: torch.memory_format, symbolic: bool = False) -> TracedError:
    """The graph of the three passes, of tensors of float16 on a GPU."""
    step = aot_function(lambda *t: passes_of(case, *t), fw_compiler=stop)
    environment = ShapeEnv()
    with FakeTensorMode(shape_env=environment), torch.no_grad():
        inputs = operands(case, memory_format, device="cuda", dtype=torch.float16)
        if symbolic:
            N = symbol_of(environment, case.N)
            inputs = [inputs[0].new_empty(N, *inputs[0].shape[1:]), inputs[1],
                      inputs[2].new_empty(N, *inputs[2].shape[1:])]  # fmt: skip
        with pytest.raises(TracedError) as found:
            step(*inputs)
    return found.value


def symbol_of(environment: ShapeEnv, number: int) -> torch.SymInt:
    symbol = environment.create_symbol(number, ConstantSource("N"), DimDynamic.DYNAMIC)
    return environment.create_symintnode(symbol, hint=number)


class Driver:
    """Tells the compiler's analysis, which no GPU has to run, for which one it is."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def is_active(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.driver, "_active", Driver())


@pytest.fixture(params=[80, 90])
def architecture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(tiles, "architecture_of", lambda device: request.param)
    tuning.use({})
    yield int(request.param)
    tuning.use({})


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")  # the analysis has Triton's default
@pytest.mark.parametrize("groups", [1, 32], ids=["dense", "depthwise"])
def test_a_graph_has_the_kernels(groups: int, architecture: int) -> None:
    """forward, grad_input, and the two kernels of grad_weight; each writes to its result alone."""
    graph = traced(replace(LAYER, groups=groups), torch.contiguous_format)
    assert len(graph.named("triton_kernel_wrapper_functional")) == 4
    assert graph.named("convgrad_ext") == []
    assert graph.cloned() == ["destination_data", "destination_data", "sums", "weight_data"]


OWN = [f"convgrad_ext.{name}.default" for name in OPERATORS]


def test_a_graph_has_the_operators_where_they_read_boxes(architecture: int) -> None:
    graph = traced(LAYER, torch.channels_last)
    assert graph.named("convgrad_ext") == (OWN if architecture >= 90 else [])


def test_a_graph_of_symbolic_sizes_has_the_operators(architecture: int) -> None:
    assert traced(LAYER, torch.contiguous_format, symbolic=True).named("convgrad_ext") == OWN


def test_plans_need_no_data(architecture: int) -> None:
    """As a caller gives the parameters."""
    with FakeTensorMode(), torch.no_grad():
        x, w, _ = operands(LAYER, torch.channels_last, device="cuda", dtype=torch.float16)
        found = convgrad_ext.plans(x, w, None, [2, 2], 1)
    path = "boxes" if architecture >= 90 else "product"
    assert {plan.pass_name: plan.path for plan in found} == dict.fromkeys(PASSES, path)


def test_the_cpu_keeps_its_operators() -> None:
    step = aot_function(lambda *t: passes_of(LAYER, *t), fw_compiler=stop)
    with torch.no_grad(), pytest.raises(TracedError) as found:
        step(*operands(LAYER, torch.contiguous_format))
    assert found.value.named("convgrad_ext") == OWN


class Step(torch.nn.Module):
    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return passes_of(LAYER, *tensors)


@pytest.mark.filterwarnings("ignore:.*LeafSpec")  # PyTorch's own use of what it deprecates
def test_an_exported_program_has_the_operators(architecture: int) -> None:
    """Before and after its decomposition."""
    with FakeTensorMode(), torch.no_grad():
        inputs = operands(LAYER, torch.contiguous_format, device="cuda", dtype=torch.float16)
        program = torch.export.export(Step(), tuple(inputs))
        for each in (program, program.run_decompositions({})):
            names = [str(node.target) for node in each.graph.nodes]
            assert [name for name in names if "convgrad_ext" in name] == OWN
