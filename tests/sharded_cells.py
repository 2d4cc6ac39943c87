"""Operands of which each process holds a part: cells for distributed_cells.py.

Operands are small whole numbers in float64, so that sums are exact in any order: values are
compared for equality with those of PyTorch's convolution of the whole tensors in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.placement_types import Placement

import convgrad_ext
from convgrad_ext.cases import CASES, Case

WHOLE, SUMMED = Replicate(), Partial("sum")
ANYHOW = (WHOLE, Shard(0), Shard(1), Shard(2), Shard(3), SUMMED)
UNEVEN = Case(
    "uneven",
    "no extent is a multiple of two; the last rows and columns of the image meet no tap",
    N=3,
    channels=(3, 5),
    image=(9, 7),
    stride=(3, 2),
    padding=((1, 0), (0, 1)),
    dilation=(1, 2),
)
GROUPED = Case("two_groups", "each process may have a group", channels=(6, 4), groups=2, padding=1)
# Of the table in convgrad_ext/sharding.py, in numbers: input, weight, bias, output.
ROWS: dict[str, tuple[Placement, Placement, Placement, Placement]] = {
    "whole": (WHOLE, WHOLE, WHOLE, WHOLE),
    "images": (Shard(0), WHOLE, WHOLE, Shard(0)),
    "filters": (WHOLE, Shard(0), Shard(0), Shard(1)),
    "channels": (Shard(1), Shard(1), WHOLE, SUMMED),
    "groups": (Shard(1), Shard(0), Shard(0), Shard(1)),
}


def whole_numbers(*size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, size, generator=generator).double()


def operands(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    sizes = case.input_size, case.weight_size, case.weight_size[:1]
    input, weight, bias = (whole_numbers(*size, seed=seed) for seed, size in enumerate(sizes))
    return input, weight, bias


def parts(whole: Tensor, mesh: DeviceMesh, placement: Placement) -> DTensor:
    """A leaf of these values; a sum has another summand in each process."""
    placements = (placement,) * mesh.ndim
    if not placement.is_partial():
        return distribute_tensor(whole, mesh, placements).requires_grad_()
    others = whole_numbers(*whole.shape, seed=9)
    mine = whole - (mesh.size() - 1) * others if dist.get_rank() == 0 else others
    return DTensor.from_local(mine, mesh, placements).requires_grad_()


def assert_whole(name: str, actual: Any, expected: Tensor) -> None:
    assert isinstance(actual, DTensor), f"{name} is no DTensor"
    assert actual.shape == expected.shape, f"{name} has the size {tuple(actual.shape)}"
    assert torch.equal(actual.full_tensor(), expected), f"{name}, {actual.placements}, is wrong"


def two_orders(conv2d: Callable[..., Tensor], leaves: Any, grad_output: Any) -> Iterator[Any]:
    """The output, the gradients of input, weight and bias, and those of the first two."""
    output = conv2d(*leaves)
    yield output
    gradients = torch.autograd.grad(output, leaves, grad_output, create_graph=True)
    yield from gradients
    cotangents = [gradient.detach() for gradient in gradients[:2]]
    yield from torch.autograd.grad(gradients[:2], (*leaves[:2], grad_output), cotangents)


NAMES = "output", "grad_input", "grad_weight", "grad_bias", "2nd input", "2nd weight", "2nd output"


def check_orders(case: Case, mesh: DeviceMesh, *placed: Placement) -> None:
    """Forward, backward and double backward of operands with these placements."""
    tensors = operands(case)
    grad_output = whole_numbers(*case.torch_conv2d(*tensors).shape, seed=5).requires_grad_()
    leaves = [t.clone().requires_grad_() for t in tensors]
    expected = two_orders(case.torch_conv2d, leaves, grad_output)
    shards = [parts(t, mesh, p) for t, p in zip(tensors, placed, strict=True)]

    def ours(*args: Any) -> Tensor:
        return convgrad_ext.conv2d(*args, **case.params)

    actual = two_orders(ours, shards, parts(grad_output.detach(), mesh, WHOLE))
    for name, a, e in zip(NAMES, actual, expected, strict=True):
        assert_whole(f"{case} {placed}: {name}", a, e.detach())


def check_row(row: str, mesh: DeviceMesh) -> None:
    """A row of the table: there is no communication, and the result has its placement."""
    *placed, expected = ROWS[row]
    for case in (UNEVEN, GROUPED):
        if (case.groups > 1) == (row in ("filters", "channels")):
            continue
        if case.groups == 1 and row == "groups":
            continue
        shards = [parts(t, mesh, p) for t, p in zip(operands(case), placed, strict=True)]
        with CommDebugMode() as messages:
            output = convgrad_ext.conv2d(*shards, **case.params)
        assert messages.get_total_counts() == 0, f"{case}: {messages.get_comm_counts()}"
        assert output.placements == (expected,) * mesh.ndim, f"{case}: {output.placements}"


def check_cases(row: str, mesh: DeviceMesh) -> None:
    """The named cases in both orders of derivatives."""
    for case in (*CASES, UNEVEN, GROUPED):
        check_orders(case, mesh, *ROWS[row][:3])


def placed_anyhow(mesh: DeviceMesh) -> None:
    """Any placement has the right values: spatial ones, sums, and those without a row."""
    for case, input, weight in product((UNEVEN, GROUPED), ANYHOW, ANYHOW):
        check_orders(case, mesh, input, weight, WHOLE)
    for bias in (WHOLE, Shard(0), SUMMED):
        for row in ("whole", "images", "filters", "channels"):
            check_orders(UNEVEN, mesh, *ROWS[row][:2], bias)


def gradients_placed_anyhow(mesh: DeviceMesh) -> None:
    """The two other operators by themselves, with any placement of the gradient."""
    for case in (UNEVEN, GROUPED):
        input, weight, _ = (t.requires_grad_() for t in operands(case))
        output = case.torch_conv2d(input, weight)
        grad_output = whole_numbers(*output.shape, seed=5)
        grad_input, grad_weight = torch.autograd.grad(output, (input, weight), grad_output)
        for first, second in product(ANYHOW, ANYHOW):
            other = parts(grad_output, mesh, second)
            for name, actual, expected in (
                (
                    "conv2d_input",
                    convgrad_ext.conv2d_input(
                        case.input_size, parts(weight.detach(), mesh, first), other, **case.params
                    ),
                    grad_input,
                ),
                (
                    "conv2d_weight",
                    convgrad_ext.conv2d_weight(
                        parts(input.detach(), mesh, first), case.weight_size, other, **case.params
                    ),
                    grad_weight,
                ),
            ):
                assert_whole(f"{case} {first} {second}: {name}", actual, expected)


def sizes_are_told_apart(mesh: DeviceMesh) -> None:
    """DTensor's cache: equal operands, but another size of the result or stride."""
    weight, grad_output = whole_numbers(4, 2, 2, 2), whole_numbers(2, 4, 3, 3, seed=1)
    for image in ((6, 6), (7, 6), (6, 7), (7, 7)):
        size = (2, 2, *image)
        actual = convgrad_ext.conv2d_input(
            size, parts(weight, mesh, WHOLE), parts(grad_output, mesh, Shard(0)), stride=2
        )
        assert_whole(
            f"{size}", actual, torch.nn.grad.conv2d_input(size, weight, grad_output, stride=2)
        )
    image = whole_numbers(2, 2, 7, 7, seed=2)
    for K in (1, 2):
        kernel = (4, 2, K, K)
        gradient = whole_numbers(*F.conv2d(image, whole_numbers(*kernel), stride=3).shape)
        actual = convgrad_ext.conv2d_weight(
            parts(image, mesh, Shard(0)), kernel, parts(gradient, mesh, Shard(0)), stride=3
        )
        assert_whole(
            f"{kernel}", actual, torch.nn.grad.conv2d_weight(image, kernel, gradient, stride=3)
        )
    for params in ({"stride": 1}, {"stride": 2}, {"dilation": 2}, {"padding": 1}):
        actual = convgrad_ext.conv2d(
            parts(image, mesh, Shard(0)), parts(weight, mesh, WHOLE), **params
        )
        assert_whole(f"{params}", actual, F.conv2d(image, weight, **params))


def integers_get_their_bias_once(mesh: DeviceMesh) -> None:
    """Outputs that are summed: DTensor would halve the bias, and integers have no halves."""
    tensors = operands(UNEVEN)
    *placed, expected = ROWS["channels"]
    shards = [
        distribute_tensor(t.long(), mesh, [p] * mesh.ndim)
        for t, p in zip(tensors, placed, strict=True)
    ]
    output = convgrad_ext.conv2d(*shards, **UNEVEN.params)
    assert output.placements == (expected,) * mesh.ndim
    assert_whole("output", output, UNEVEN.torch_conv2d(*tensors).long())


def filters_then_channels(mesh: DeviceMesh) -> None:
    """A pair of layers split by filters and by channels: no message before the last sum."""
    image, first, second = (
        whole_numbers(*size, seed=seed)
        for seed, size in enumerate(((2, 3, 6, 6), (5, 3, 3, 3), (4, 5, 3, 3)))
    )
    leaves = [t.clone().requires_grad_() for t in (image, first, second)]
    expected = F.conv2d(F.conv2d(leaves[0], leaves[1]).relu(), leaves[2])
    placed = zip((image, first, second), (WHOLE, Shard(0), Shard(1)), strict=True)
    shards = [parts(t, mesh, p) for t, p in placed]
    with CommDebugMode() as messages:
        hidden = convgrad_ext.conv2d(shards[0], shards[1]).relu()
        output = convgrad_ext.conv2d(hidden, shards[2])
    assert messages.get_total_counts() == 0
    assert output.placements == (SUMMED,) * mesh.ndim
    assert_whole("output", output, expected.detach())
    whole = output.redistribute(placements=[WHOLE] * mesh.ndim)
    gradients = torch.autograd.grad(whole.square().sum(), shards)
    for actual, theirs in zip(
        gradients, torch.autograd.grad(expected.square().sum(), leaves), strict=True
    ):
        assert_whole("gradient", actual, theirs)


def layers(mesh: DeviceMesh) -> None:
    """Conv2d with parts of its parameters, on one image, in every padding mode."""
    image, weight, bias = whole_numbers(3, 6, 6), whole_numbers(5, 3, 3, 3), whole_numbers(5)
    for mode in ("zeros", "circular"):
        ours = convgrad_ext.Conv2d(3, 5, 3, padding=1, padding_mode=mode)
        ours.weight = nn.Parameter(distribute_tensor(weight, mesh, [Shard(0)] * mesh.ndim))
        ours.bias = nn.Parameter(distribute_tensor(bias, mesh, [Shard(0)] * mesh.ndim))
        theirs = nn.Conv2d(3, 5, 3, padding=1, padding_mode=mode)
        theirs.weight, theirs.bias = nn.Parameter(weight), nn.Parameter(bias)
        assert_whole(mode, ours(parts(image, mesh, WHOLE)), theirs(image).detach())


def parts_keep_the_layout(mesh: DeviceMesh) -> None:
    """The part of a channels_last gradient is channels_last, and without gaps."""
    last = {"memory_format": torch.channels_last}
    input, weight = whole_numbers(2, 4, 5, 5).to(**last), whole_numbers(6, 4, 3, 3).to(**last)
    for row in ("images", "filters", "channels"):
        placed = ROWS[row][:2]
        leaves = [parts(t, mesh, p) for t, p in zip((input, weight), placed, strict=True)]
        for gradient in torch.autograd.grad(convgrad_ext.conv2d(*leaves).sum(), leaves):
            assert gradient.is_contiguous(**last), f"{row}: {gradient.stride()}"
            assert gradient.to_local().is_contiguous(**last), (
                f"{row}: {gradient.to_local().stride()}"
            )


def refusals(mesh: DeviceMesh) -> None:
    """Plain tensors beside DTensors, two meshes, and sizes that do not match."""
    input, weight, _ = operands(UNEVEN)
    shards = parts(input, mesh, Shard(0))
    other = DeviceMesh("cpu", torch.arange(mesh.size()).flip(0))
    for message, refused in {
        "mixed torch.Tensor and DTensor": weight,
        "cross-mesh": parts(weight, other, WHOLE),
        "expected input.* to have 4 channels, but got 3": parts(
            whole_numbers(5, 4, 3, 3), mesh, WHOLE
        ),
    }.items():
        assert_refused(message, shards, refused)


def assert_refused(message: str, *tensors: Tensor) -> None:
    with pytest.raises(RuntimeError, match=message):
        convgrad_ext.conv2d(*tensors)


def part_of_the_processes(mesh: DeviceMesh) -> None:
    """A mesh of the first process alone: the others compute nothing."""
    first = DeviceMesh("cpu", torch.zeros(1, dtype=torch.long))
    input, weight, bias = operands(UNEVEN)
    output = convgrad_ext.conv2d(
        *(parts(t, first, WHOLE) for t in (input, weight, bias)), **UNEVEN.params
    )
    expected = UNEVEN.torch_conv2d(input, weight, bias)
    mine = expected if dist.get_rank() == 0 else torch.empty(0).double()
    assert output.shape == expected.shape
    assert torch.equal(output.to_local(), mine)


def compiled(mesh: DeviceMesh) -> None:
    """torch.compile traces a function of DTensors, and their gradients, without a break."""
    torch._dynamo.reset()
    function = torch.compile(
        lambda *args: convgrad_ext.conv2d(*args, **UNEVEN.params),
        backend="aot_eager",
        fullgraph=True,
    )
    tensors = operands(UNEVEN)
    leaves = [t.clone().requires_grad_() for t in tensors]
    expected = UNEVEN.torch_conv2d(*leaves)
    gradients = torch.autograd.grad(expected.sum(), leaves)
    for row in ("images", "channels"):
        shards = [parts(t, mesh, p) for t, p in zip(tensors, ROWS[row][:3], strict=True)]
        output = function(*shards)
        assert_whole(f"{row}: output", output, expected.detach())
        for actual, whole in zip(torch.autograd.grad(output.sum(), shards), gradients, strict=True):
            assert_whole(f"{row}: gradient", actual, whole)


CELLS: dict[str, Callable[[DeviceMesh], None]] = {
    **{f"row_{row}": partial(check_row, row) for row in ROWS},
    **{f"cases_{row}": partial(check_cases, row) for row in ROWS},
    "placed_anyhow": placed_anyhow,
    "gradients_placed_anyhow": gradients_placed_anyhow,
    "sizes_are_told_apart": sizes_are_told_apart,
    "integers_get_their_bias_once": integers_get_their_bias_once,
    "filters_then_channels": filters_then_channels,
    "layers": layers,
    "parts_keep_the_layout": parts_keep_the_layout,
    "refusals": refusals,
    "part_of_the_processes": part_of_the_processes,
    "compiled": compiled,
}
