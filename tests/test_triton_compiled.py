"""Every Triton kernel, compiled ahead of time for three generations of GPUs: no GPU is needed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor.codegen.wrapper import (
    user_defined_triton_kernel_transitive_closure_source_code,
)

triton = pytest.importorskip("triton", reason="the kernels need Triton: pip install triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from convgrad_ext.cases import Case  # noqa: E402
from convgrad_ext.triton import calls, gather, reduction, tuning  # noqa: E402
from convgrad_ext.triton.boxes import Operand  # noqa: E402
from convgrad_ext.triton.launches import Launch  # noqa: E402

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}  # bytes of a block, by architecture
SUMS = ("*fp32", "*fp64")
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")
POINTERS = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
}
PRODUCTS = {80: "mma.sync", 90: "wgmma.mma_async|mma.sync", 100: "tcgen05.mma|mma.sync"}


@dataclass(frozen=True)
class Numbers:
    """Of the operands, and how products are rounded."""

    dtype: torch.dtype
    precision: str = "ieee"

    def have_units(self, architecture: int) -> bool:
        """Whether tensor cores multiply them; Triton 3.6 has none for float64 on sm_100."""
        if self.dtype == torch.float64 and architecture == 100:
            return not triton.__version__.startswith("3.6.")
        return self.dtype != torch.float32 or self.precision == "tf32"

    def __str__(self) -> str:
        return "tf32" if self.precision == "tf32" else str(self.dtype).removeprefix("torch.")


NUMBERS = [*map(Numbers, POINTERS), Numbers(torch.float32, "tf32")]


@dataclass(frozen=True)
class Layer:
    case: Case
    memory_format: torch.memory_format = torch.contiguous_format

    def __str__(self) -> str:
        return self.case.name


DENSE = {"N": 4, "channels": (128, 128), "image": (28, 28), "kernel": (3, 3), "padding": 1}
LAYERS = (
    Layer(Case("image", "one of them", N=1, channels=(32, 1), image=(9, 9), kernel=(3, 3))),
    Layer(Case("dense", "", **DENSE)),
    Layer(Case("first", "", N=4, channels=(3, 64), image=(64, 64), kernel=(7, 7), stride=(2, 2))),
    Layer(Case("depthwise", "", N=4, channels=(96, 96), image=(28, 28), kernel=(3, 3), groups=96)),
    Layer(Case("boxes", "", **DENSE), torch.channels_last),
    Layer(Case("strided_boxes", "", **DENSE, stride=(2, 2)), torch.channels_last),
    Layer(Case("no_boxes", "", **DENSE | {"image": (27, 27)}, stride=(2, 2)), torch.channels_last),
)
PASSES = ("forward", "grad_input", "grad_weight", "add_splits")


def launch_of(layer: Layer, pass_name: str, numbers: Numbers, architecture: int) -> Launch:
    case = layer.case
    pair = case.stride if isinstance(case.stride, tuple) else (case.stride, case.stride)
    params = (pair, case.sides, (1, 1), case.groups)
    conv = calls.convolution(case.input_size, case.weight_size, params)
    tensors = [
        torch.empty(size, dtype=numbers.dtype, memory_format=layer.memory_format, device="meta")
        for size in (case.input_size, case.weight_size, output_size(case))
    ]
    x, w, y = map(Operand.of, tensors)
    x, w, y = (replace(operand, device=torch.device("cpu")) for operand in (x, w, y))
    device = (numbers.precision, architecture)
    if pass_name == "forward":
        return gather.launch_of(gather.Gather(conv, True, x, w, y, True, *device))
    if pass_name == "grad_input":
        return gather.launch_of(gather.Gather(conv, False, y, w, x, False, *device))
    both = reduction.launches_of(reduction.Reduction(conv, x, y, w, *device))
    return both.sum if pass_name == "grad_weight" else both.add


def output_size(case: Case) -> torch.Size:
    sizes = (case.input_size, case.weight_size)
    return case.torch_conv2d(*(torch.empty(size, device="meta") for size in sizes)).shape


def compiled(launch: Launch, numbers: Numbers, architecture: int) -> Any:
    """For any strides and extents but 1, which Triton takes for a constant.

    A call lets it know as well which of them 16 divides.
    """
    signature = {p.name: type_of(p, launch, numbers) for p in launch.kernel.params}
    constants = {n: launch.arguments[n] for n, type in signature.items() if type == "constexpr"}
    source = ASTSource(launch.kernel, signature, constants)
    options = {name: launch.arguments[name] for name in OPTIONS}
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def type_of(parameter: Any, launch: Launch, numbers: Numbers) -> str:
    """As Triton names it: of a pointer, a descriptor, a number, or one that is a constant."""
    name = parameter.name
    if name in launch.views:
        block = ",".join(map(str, launch.views[name].block))
        return f"tensordesc<{POINTERS[numbers.dtype][1:]}[{block}]>"
    if name in ("table", "sums"):
        return {"table": "*i32", "sums": SUMS[numbers.dtype == torch.float64]}[name]
    if name not in launch.arguments:
        return POINTERS[numbers.dtype]
    is_one = launch.arguments[name] == 1
    return "constexpr" if parameter.is_constexpr or is_one else "i32"


def stack_bytes(binary: Any, folder: Path) -> int:
    file = folder / "kernel.cubin"
    file.write_bytes(binary.asm["cubin"])
    command = [CUOBJDUMP, "-res-usage", file]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"STACK:(\d+)", usage)
    assert found is not None
    return int(found[1])


ALL = (
    pytest.mark.parametrize("architecture", SHARED_MEMORY),
    pytest.mark.parametrize("numbers", NUMBERS, ids=str),
    pytest.mark.parametrize("layer", LAYERS, ids=str),
)


def with_all(test: Any) -> Any:
    for mark in ALL:
        test = mark(test)
    return test


@with_all
@pytest.mark.parametrize("pass_name", PASSES)
def test_a_kernel_fits_its_processor(
    layer: Layer, pass_name: str, numbers: Numbers, architecture: int, tmp_path: Path
) -> None:
    """No register is spilled to the stack, shared memory suffices, and products use its units."""
    launch = launch_of(layer, pass_name, numbers, architecture)
    binary = compiled(launch, numbers, architecture)
    assert stack_bytes(binary, tmp_path) == 0
    assert binary.metadata.shared <= SHARED_MEMORY[architecture]
    multiplies = layer.case.groups == 1 and pass_name != "add_splits"
    found = re.search(PRODUCTS[architecture], binary.asm["ptx"])
    assert (found is not None) == (multiplies and numbers.have_units(architecture))


@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("layer", LAYERS[:4], ids=str)
def test_inductor_can_write_a_kernel_anew(layer: Layer, pass_name: str, tmp_path: Path) -> None:
    """torch.compile takes the functions and constants that a kernel names, and nothing else."""
    numbers = Numbers(torch.float16)
    launch = launch_of(layer, pass_name, numbers, 80)
    written = user_defined_triton_kernel_transitive_closure_source_code(launch.kernel)
    file = tmp_path / "written.py"
    head = "import triton\nimport triton.language as tl\n@triton.jit\n"
    file.write_text(head + written.removeprefix("@triton.jit\n"))
    spec = importlib.util.spec_from_file_location("written", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    again = replace(launch, kernel=getattr(module, launch.kernel.__name__))
    ours, theirs = (compiled(each, numbers, 80) for each in (launch, again))
    assert sums_of_code(ours) == sums_of_code(theirs)


def sums_of_code(binary: Any) -> list[tuple[str, int]]:
    """How often each instruction stands in it: names and lines of the source differ."""
    names = re.findall(r"^\s+([a-z][\w.]*)\s", binary.asm["ptx"], re.MULTILINE)
    return sorted(Counter(names).items())


@pytest.fixture
def untuned() -> Iterator[None]:
    yield
    tuning.use({})


@pytest.mark.slow
@pytest.mark.usefixtures("untuned")
@with_all
@pytest.mark.parametrize("pass_name", PASSES[:3])
def test_every_candidate_of_the_tuner_compiles(
    layer: Layer, pass_name: str, numbers: Numbers, architecture: int
) -> None:
    """A tile that shared memory cannot hold would be passed over; none is that large."""
    shape = launch_of(layer, pass_name, numbers, architecture).shape
    for tile in tuning.candidates_of(shape):
        tuning.use({shape: tile})
        launch = launch_of(layer, pass_name, numbers, architecture)
        binary = compiled(launch, numbers, architecture)
        assert binary.metadata.shared <= SHARED_MEMORY[architecture]
