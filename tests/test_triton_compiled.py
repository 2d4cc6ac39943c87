"""Every Triton kernel, compiled ahead of time for three generations of GPUs: no GPU is needed."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="the kernels need Triton: pip install triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from convgrad_ext.cases import Case  # noqa: E402
from convgrad_ext.triton import launches, passes  # noqa: E402
from convgrad_ext.triton.launches import Launch, Operand  # noqa: E402

CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}  # bytes of a block, by architecture
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

    @property
    def has_units(self) -> bool:
        """Whether tensor cores multiply them."""
        return self.dtype != torch.float32 or self.precision == "tf32"

    def __str__(self) -> str:
        return "tf32" if self.precision == "tf32" else str(self.dtype).removeprefix("torch.")


NUMBERS = [*map(Numbers, POINTERS), Numbers(torch.float32, "tf32")]
LAYERS = (
    Case("image", "a batch of one", N=1, channels=(32, 1), image=(9, 9), kernel=(3, 3)),
    Case("dense", "", N=4, channels=(128, 128), image=(28, 28), kernel=(3, 3), padding=1),
    Case("first", "", N=4, channels=(3, 64), image=(64, 64), kernel=(7, 7), stride=(2, 2)),
    Case("depthwise", "", N=4, channels=(96, 96), image=(28, 28), kernel=(3, 3), groups=96),
)
PASSES = ("forward", "grad_input", "grad_weight", "add_splits")


def launch_of(case: Case, pass_name: str, numbers: Numbers) -> Launch:
    pair = case.stride if isinstance(case.stride, tuple) else (case.stride, case.stride)
    params = (pair, case.sides, (1, 1), case.groups)
    conv = passes.convolution(case.input_size, case.weight_size, *params)
    tensors = [
        torch.empty(size, dtype=numbers.dtype) for size in (case.input_size, case.weight_size)
    ]
    output = case.torch_conv2d(*(t.float() for t in tensors)).to(numbers.dtype)
    x, w, y = map(Operand.of, (*tensors, output))
    if pass_name == "forward":
        return launches.launch_of(launches.Gather(conv, True, x, w, y, True, numbers.precision))
    if pass_name == "grad_input":
        return launches.launch_of(launches.Gather(conv, False, y, w, x, False, numbers.precision))
    both = launches.launches_of(launches.Reduction(conv, x, y, w, numbers.precision))
    return both.sum if pass_name == "grad_weight" else both.add


def compiled(launch: Launch, numbers: Numbers, architecture: int) -> Any:
    """For any strides and extents but 1, which Triton takes for a constant.

    A call lets it know as well which of them 16 divides.
    """
    sums = "*fp64" if numbers.dtype == torch.float64 else "*fp32"
    pointers = {"table": "*i32", "sums": sums}
    signature, constants = {}, {}
    for parameter in launch.kernel.params:
        name = parameter.name
        if parameter.is_constexpr:
            signature[name], constants[name] = "constexpr", launch.arguments[name]
        elif name != "table" and launch.arguments.get(name) == 1:
            signature[name], constants[name] = "constexpr", 1
        elif name in launch.arguments and name != "table":
            signature[name] = "i32"
        else:
            signature[name] = pointers.get(name, POINTERS[numbers.dtype])
    source = ASTSource(launch.kernel, signature, constants)
    options = {name: launch.arguments[name] for name in OPTIONS}
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def stack_bytes(binary: Any, folder: Path) -> int:
    file = folder / "kernel.cubin"
    file.write_bytes(binary.asm["cubin"])
    command = [CUOBJDUMP, "-res-usage", file]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"STACK:(\d+)", usage)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("architecture", SHARED_MEMORY)
@pytest.mark.parametrize("numbers", NUMBERS, ids=str)
@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_kernel_fits_its_processor(
    layer: Case, pass_name: str, numbers: Numbers, architecture: int, tmp_path: Path
) -> None:
    """No register is spilled to the stack, shared memory suffices, and products use its units."""
    binary = compiled(launch_of(layer, pass_name, numbers), numbers, architecture)
    assert stack_bytes(binary, tmp_path) == 0
    assert binary.metadata.shared <= SHARED_MEMORY[architecture]
    multiplies = layer.groups == 1 and pass_name != "add_splits" and numbers.has_units
    found = re.search(PRODUCTS[architecture], binary.asm["ptx"])
    assert (found is not None) == multiplies
