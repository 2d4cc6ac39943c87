"""The strides of gradients: those of the tensors that they belong to, so that none is copied.

Expected strides are the tensor's own, by the contract of torch's AccumulateGrad; where its elements
do not lie side by side, those of a contiguous one. Expected values are PyTorch's gradients of
contiguous operands in double precision.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tolerance import assert_sums_equal
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad
from torch.func import functional_call, grad, vmap

import convgrad_ext

RAW = torch.ops.convgrad_ext
LAST = torch.channels_last
Size = tuple[int, ...]
Layout = Callable[[Tensor], Tensor]


def random(*size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, dtype=torch.float64, generator=generator)


def permuted(order: Size) -> Layout:
    """The same values; the dimensions lie in memory in this order, the outermost first."""
    inverse = [order.index(d) for d in range(4)]
    return lambda t: t.permute(order).contiguous().permute(inverse)


# Side by side in memory, in whatever order
DENSE: dict[str, Layout] = {
    "contiguous": Tensor.contiguous,
    "channels_last": lambda t: t.contiguous(memory_format=LAST),
    "images_innermost": permuted((1, 2, 3, 0)),
    "rows_outermost": permuted((2, 0, 3, 1)),
}
WITH_GAPS: dict[str, Layout] = {
    "columns_cut_off": lambda t: F.pad(t, (0, 1))[..., :-1],
    "every_other_channel": lambda t: torch.stack([t, t], dim=2).flatten(1, 2)[:, ::2],
    "rows_expanded": lambda t: t[:, :, :1].expand_as(t),
}

# (input size, weight size, parameters); many of them are the same memory in both formats
SHAPES: dict[str, tuple[Size, Size, dict[str, Any]]] = {
    "dense": ((2, 4, 6, 5), (8, 4, 3, 2), {"padding": 1}),
    "strided": ((2, 4, 7, 6), (6, 4, 3, 3), {"stride": 2, "padding": 1}),
    "pointwise": ((2, 4, 6, 5), (8, 4, 1, 1), {}),
    "depthwise": ((2, 4, 6, 5), (4, 1, 3, 3), {"padding": 1, "groups": 4}),
    "one_channel": ((2, 1, 6, 5), (8, 1, 3, 3), {}),
    "one_filter": ((2, 4, 6, 5), (1, 4, 3, 3), {}),
    "one_pixel": ((3, 4, 1, 1), (8, 4, 3, 3), {"padding": 1}),
    "one_image": ((1, 4, 6, 5), (8, 4, 3, 3), {}),
    "one_row": ((2, 4, 1, 9), (8, 4, 1, 3), {}),
    "one_of_everything": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
}


def contiguous_strides(size: Size) -> Size:
    return torch.empty(size, device="meta").stride()


def leaves_of(shape: str, input_layout: Layout, weight_layout: Layout) -> tuple[Tensor, Tensor]:
    input_size, weight_size, _ = SHAPES[shape]
    input, weight = input_layout(random(*input_size)), weight_layout(random(*weight_size, seed=1))
    return input.requires_grad_(), weight.requires_grad_()


def gradients(conv: Callable[..., Tensor], input: Tensor, weight: Tensor, **params: Any) -> Any:
    """Of input and weight, as the backward makes them: AccumulateGrad does not see them."""
    output = conv(input, weight, **params)
    return torch.autograd.grad(output, (input, weight), random(*output.shape, seed=2))


def assert_gradients_are_torchs(actual: Any, input: Tensor, weight: Tensor, **params: Any) -> None:
    plain = [t.detach().contiguous().requires_grad_() for t in (input, weight)]
    for ours, theirs in zip(actual, gradients(F.conv2d, *plain, **params), strict=True):
        assert_sums_equal(ours, theirs, torch.full_like(theirs, 1000), reduction=500)


# Eager autograd


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("weight_layout", DENSE)
@pytest.mark.parametrize("input_layout", DENSE)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_have_the_strides_of_their_tensors(
    shape: str, input_layout: str, weight_layout: str
) -> None:
    """In every dimension, those of one element too: the buckets of DDP compare them all."""
    leaves = leaves_of(shape, DENSE[input_layout], DENSE[weight_layout])
    params = SHAPES[shape][2]
    actual = gradients(convgrad_ext.conv2d, *leaves, **params)
    assert [g.stride() for g in actual] == [t.stride() for t in leaves]
    assert_gradients_are_torchs(actual, *leaves, **params)


@pytest.mark.parametrize("shape", ["dense", "strided", "depthwise"])
@pytest.mark.parametrize("layout", WITH_GAPS)
def test_gradients_of_tensors_with_gaps_are_contiguous(layout: str, shape: str) -> None:
    """Whatever the format of the other operand."""
    for other in (DENSE["contiguous"], DENSE["channels_last"]):
        for layouts in ((WITH_GAPS[layout], other), (other, WITH_GAPS[layout])):
            input, weight = leaves_of(shape, *layouts)
            gapped = 0 if layouts[1] is other else 1
            if (input, weight)[gapped].is_contiguous():  # one channel alone has no other
                continue
            actual = gradients(convgrad_ext.conv2d, input, weight, **SHAPES[shape][2])
            assert actual[gapped].stride() == contiguous_strides(actual[gapped].shape)
            assert actual[1 - gapped].stride() == (input, weight)[1 - gapped].stride()
            assert_gradients_are_torchs(actual, input, weight, **SHAPES[shape][2])


@pytest.mark.parametrize("wanted", ["input", "weight"])
def test_strides_are_known_where_the_tensor_was_not_kept(wanted: str) -> None:
    """Only the other operand is saved if one gradient is wanted alone."""
    input, weight = leaves_of("dense", DENSE["images_innermost"], DENSE["rows_outermost"])
    leaf, constant = (input, weight) if wanted == "input" else (weight, input)
    constant.requires_grad_(False)
    output = convgrad_ext.conv2d(input, weight, padding=1)
    assert torch.autograd.grad(output.sum(), leaf)[0].stride() == leaf.stride()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_taken_over_uncopied(shape: str, layout: str) -> None:
    """The memory that a pass wrote becomes .grad of the leaf."""
    leaves = leaves_of(shape, DENSE["channels_last"], DENSE[layout])
    written: dict[int, int] = {}
    for leaf in leaves:
        leaf.register_hook(lambda g, leaf=leaf: written.update({id(leaf): g.data_ptr()}))
    convgrad_ext.conv2d(*leaves, **SHAPES[shape][2]).sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None
        assert leaf.grad.stride() == leaf.stride()
        assert leaf.grad.data_ptr() == written[id(leaf)]


def test_gradient_of_one_image() -> None:
    """Without N, through the dimension that is put in front of it and taken away again."""
    image = random(6, 5, 4).permute(2, 0, 1).requires_grad_()
    weight = random(8, 4, 3, 3).requires_grad_()
    output = convgrad_ext.conv2d(image, weight)
    assert torch.autograd.grad(output.sum(), image)[0].stride() == (1, 20, 4)


@pytest.mark.parametrize("weight_layout", ["contiguous", "channels_last", "rows_outermost"])
@pytest.mark.parametrize("input_layout", ["contiguous", "channels_last", "rows_outermost"])
@pytest.mark.parametrize("shape", ["dense", "strided", "pointwise", "depthwise"])
def test_second_gradients_have_them_too(shape: str, input_layout: str, weight_layout: str) -> None:
    """Backward through both companions, each of which leads to input and weight."""
    leaves = leaves_of(shape, DENSE[input_layout], DENSE[weight_layout])
    output = convgrad_ext.conv2d(*leaves, **SHAPES[shape][2])
    cotangent = random(*output.shape, seed=2).requires_grad_()
    first = torch.autograd.grad(output, leaves, cotangent, create_graph=True)
    assert [g.stride() for g in first] == [t.stride() for t in leaves]
    grad_input, grad_weight = first
    (of_weight,) = torch.autograd.grad((grad_input**2).sum(), leaves[1], retain_graph=True)
    (of_input,) = torch.autograd.grad((grad_weight**2).sum(), leaves[0])
    assert (of_input.stride(), of_weight.stride()) == (leaves[0].stride(), leaves[1].stride())


def test_tangents_of_gradients_have_them_too() -> None:
    """Forward over reverse: a tangent of other strides than its value would be copied."""
    input, weight = leaves_of("dense", DENSE["images_innermost"], DENSE["rows_outermost"])
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(t, t.detach().clone()) for t in (input, weight)]
        output = convgrad_ext.conv2d(*duals, padding=1)
        first = torch.autograd.grad((output**2).sum(), duals, create_graph=True)
        tangents = [forward_ad.unpack_dual(g).tangent for g in first]
    assert [t.stride() for t in tangents] == [input.stride(), weight.stride()]


# The operators

LAYERS = {
    "direct": ((2, 12, 9, 8), (20, 12, 3, 3), (1, 1), (1, 1, 1, 1), 1),
    "strided": ((2, 12, 9, 8), (20, 12, 3, 3), (2, 2), (1, 1, 1, 1), 1),
    "stride_exceeds_kernel": ((2, 12, 9, 8), (20, 12, 2, 2), (3, 3), (0, 0, 0, 0), 1),
    "pointwise": ((2, 12, 9, 8), (20, 12, 1, 1), (1, 1), (0, 0, 0, 0), 1),
    "depthwise": ((2, 12, 9, 8), (12, 1, 3, 3), (1, 1), (1, 1, 1, 1), 12),
    "grouped": ((2, 12, 9, 8), (20, 3, 3, 3), (1, 1), (1, 1, 1, 1), 4),
    "winograd": ((2, 24, 16, 16), (32, 24, 3, 3), (1, 1), (1, 1, 1, 1), 1),
}


@pytest.mark.usefixtures("kernel", "poisoned")
@pytest.mark.parametrize("layer", LAYERS)
def test_every_order_of_the_dimensions_is_written(layer: str) -> None:
    """Each of 24, by whichever path the layer takes; Winograd's is allowed here."""
    input_size, weight_size, stride, sides, groups = LAYERS[layer]
    input, weight = random(*input_size), random(*weight_size, seed=1)
    params = stride, sides, (1, 1), groups
    theirs = {"stride": stride, "padding": sides[0], "groups": groups}
    grad_output = random(*F.conv2d(input, weight, **theirs).shape, seed=2)
    expected_input = torch.nn.grad.conv2d_input(input_size, weight, grad_output, **theirs)
    expected_weight = torch.nn.grad.conv2d_weight(input, weight_size, grad_output, **theirs)
    for order in permutations(range(4)):
        of_input, of_weight = (permuted(order)(t).stride() for t in (input, weight))
        with convgrad_ext.allow_winograd(layer == "winograd"):
            grad_input = RAW.conv2d_input(input_size, weight, grad_output, *params, of_input)
            grad_weight = RAW.conv2d_weight(input, weight_size, grad_output, *params, of_weight)
        assert (grad_input.stride(), grad_weight.stride()) == (of_input, of_weight)
        for actual, expected in ((grad_input, expected_input), (grad_weight, expected_weight)):
            assert_sums_equal(actual, expected, torch.full_like(expected, 1e4), reduction=1000)


WINDOW = ((1, 1), (0, 0, 0, 0), (1, 1), 1)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("size", "kernel_extent", "expected"),
    [
        pytest.param((8, 4), (3, 3), (36, 1, 12, 4), id="channels_last"),
        pytest.param((8, 4), (1, 1), (4, 1, 1, 1), id="pointwise_is_contiguous"),
        pytest.param((8, 4), (3, 1), (12, 1, 4, 4), id="one_column"),
    ],
)
def test_without_strides_an_operand_decides(
    device: str, size: Size, kernel_extent: Size, expected: Size
) -> None:
    """Of the two formats that are the same memory, the gradient gets the contiguous one."""
    input = torch.empty(2, 4, 6, 5, device=device).contiguous(memory_format=LAST)
    weight = torch.empty(*size, *kernel_extent, device=device)
    output = RAW.conv2d(input, weight, None, *WINDOW)
    grad_weight = RAW.conv2d_weight(input, tuple(weight.shape), output, *WINDOW)
    assert grad_weight.stride() == expected
    assert RAW.conv2d_input(tuple(input.shape), weight, output, *WINDOW).stride() == input.stride()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_operands_that_are_both_decide_nothing(device: str) -> None:
    """Images of one channel are channels_last and contiguous at once: they count as contiguous."""
    input = torch.empty(2, 1, 6, 5, device=device).contiguous(memory_format=LAST)
    grad_output = torch.empty(2, 8, 4, 3, device=device)
    weight = torch.empty(8, 1, 3, 3, device=device).contiguous(memory_format=LAST)
    assert RAW.conv2d_weight(input, (8, 1, 3, 3), grad_output, *WINDOW).stride() == (9, 9, 3, 1)
    grad_input = RAW.conv2d_input((2, 1, 6, 5), weight, grad_output, *WINDOW)
    assert grad_input.stride() == (30, 30, 5, 1)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    "strides",
    [
        pytest.param((0, 9, 3, 1), id="expanded"),
        pytest.param((18, 9, 3, 1), id="every_other"),
        pytest.param((9, 9, 3, 1), id="overlapping"),
        pytest.param((2**62, 9, 3, 1), id="far_apart"),
        pytest.param((2**63 - 1,) * 4, id="beyond_64_bits"),
    ],
)
def test_strides_with_gaps_are_not_taken_over(strides: Size, device: str) -> None:
    input = torch.zeros(2, 1, 6, 5, device=device)
    grad_output = torch.zeros(2, 4, 4, 3, device=device)
    grad_weight = RAW.conv2d_weight(input, (4, 1, 3, 3), grad_output, *WINDOW, strides)
    same = strides[0] == 9  # one channel: the second stride is never walked along
    assert grad_weight.stride() == (strides if same else (9, 9, 3, 1))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("strides", [(), (9, 9, 3), (9, 9, 3, 1, 1), (9, 9, 3, -1)], ids=str)
def test_strides_that_are_none(strides: Size, device: str) -> None:
    input, weight = torch.zeros(2, 1, 6, 5, device=device), torch.zeros(4, 1, 3, 3, device=device)
    grad_output = torch.zeros(2, 4, 4, 3, device=device)
    told = (
        "expected grad_strides to be 4 numbers of at least 0, but got "
        f"grad_strides={list(strides)}".replace("[", r"\[")
    )
    with pytest.raises(RuntimeError, match=told):
        RAW.conv2d_weight(input, (4, 1, 3, 3), grad_output, *WINDOW, strides)
    with pytest.raises(RuntimeError, match=told):
        RAW.conv2d_input((2, 1, 6, 5), weight, grad_output, *WINDOW, strides)


@pytest.mark.parametrize("op_name", ["conv2d_input", "conv2d_weight"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "rows_outermost"])
def test_operators_meet_the_contract_of_torch_library(op_name: str, layout: str) -> None:
    """opcheck: among others, that tensors without data have the strides of those with data."""
    input, weight = leaves_of("strided", DENSE[layout], DENSE[layout])
    params = ((2, 2), (1, 1, 1, 1), (1, 1), 1)
    grad_output = RAW.conv2d(input, weight, None, *params).detach().requires_grad_()
    if op_name == "conv2d_input":
        arguments = (tuple(input.shape), weight, grad_output, *params, input.stride())
    else:
        arguments = (input, tuple(weight.shape), grad_output, *params, weight.stride())
    torch.library.opcheck(getattr(RAW, op_name).default, arguments)


# Transforms


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("weight_layout", ["contiguous", "channels_last", "rows_outermost"])
@pytest.mark.parametrize("shape", ["dense", "pointwise", "depthwise"])
def test_compiled_gradients_have_them(shape: str, weight_layout: str) -> None:
    leaves = leaves_of(shape, DENSE["channels_last"], DENSE[weight_layout])
    params = SHAPES[shape][2]
    compiled = torch.compile(convgrad_ext.conv2d, fullgraph=True, backend="aot_eager")
    actual = gradients(compiled, *leaves, **params)
    assert [g.stride() for g in actual] == [t.stride() for t in leaves]
    assert_gradients_are_torchs(actual, *leaves, **params)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_compiled_gradients_of_changing_sizes_have_them(layout: str) -> None:
    """Strides are symbols as sizes are: one graph serves all."""
    graphs = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(convgrad_ext.conv2d, fullgraph=True, dynamic=True, backend=graphs)
    for size in ((5, 4, 7, 10), (3, 4, 9, 8), (8, 4, 7, 11)):
        input = DENSE[layout](random(*size)).requires_grad_()
        weight = DENSE[layout](random(6, 4, 3, 2, seed=1)).requires_grad_()
        actual = gradients(compiled, input, weight, stride=2)
        assert [g.stride() for g in actual] == [input.stride(), weight.stride()]
        assert_gradients_are_torchs(actual, input, weight, stride=2)
    assert graphs.frame_count == 1


@pytest.mark.usefixtures("fresh_compiler")
def test_gradients_compiled_to_machine_code_have_them() -> None:
    """The compiler may lay out what is between; not what leaves the graph."""
    input, weight = leaves_of("dense", DENSE["channels_last"], DENSE["rows_outermost"])
    compiled = torch.compile(
        lambda x, w: convgrad_ext.conv2d(x * 2, w + 1, padding=1).relu(), fullgraph=True
    )
    output = compiled(input, weight)
    actual = torch.autograd.grad(output.sum(), (input, weight))
    assert [g.stride() for g in actual] == [input.stride(), weight.stride()]


def test_per_sample_gradients_of_channels_last_images() -> None:
    """The strides of one example are none of the batch's; the values stay right."""
    layer = convgrad_ext.Conv2d(4, 6, 3, dtype=torch.float64).to(memory_format=LAST)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    images = random(3, 4, 6, 5).contiguous(memory_format=LAST)

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return (functional_call(layer, parameters, image[None]) ** 2).sum()

    per_sample = vmap(grad(loss), (None, 0))(parameters, images)
    for b, image in enumerate(images):
        weight, bias = (p.detach().contiguous().requires_grad_() for p in layer.parameters())
        output = F.conv2d(image[None].contiguous(), weight, bias)
        expected = torch.autograd.grad((output**2).sum(), (weight, bias))
        for name, theirs in zip(("weight", "bias"), expected, strict=True):
            magnitudes = torch.full_like(theirs, 1e4)
            assert_sums_equal(per_sample[name][b], theirs, magnitudes, reduction=500)


@pytest.mark.parametrize("dims", [(0, None), (None, 0), (0, 0)], ids=str)
def test_batched_companions_take_strides(dims: tuple[int | None, int | None]) -> None:
    weight, grad_output = random(3, 6, 4, 3, 3), random(3, 2, 6, 4, 3, seed=1)
    tensors = [t[0] if d is None else t for t, d in zip((weight, grad_output), dims, strict=True)]
    strides = contiguous_strides((2, 4, 6, 5))

    def run(weight: Tensor, grad_output: Tensor) -> Tensor:
        return RAW.conv2d_input((2, 4, 6, 5), weight, grad_output, *WINDOW, strides)

    actual = vmap(run, dims)(*tensors)
    for b in range(3):
        one = [t if d is None else t[b] for t, d in zip(tensors, dims, strict=True)]
        expected = torch.nn.grad.conv2d_input((2, 4, 6, 5), *one)
        assert_sums_equal(actual[b], expected, torch.full_like(expected, 1000), reduction=500)


# Buckets of DistributedDataParallel

ONE_PROCESS = """
import sys, warnings
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
import convgrad_ext

torch.manual_seed(0)
torch.distributed.init_process_group("gloo", init_method=sys.argv[1], rank=0, world_size=1)
model = nn.Sequential(
    convgrad_ext.Conv2d(3, 8, 3, padding=1),
    convgrad_ext.Conv2d(8, 8, 3, padding=1, groups=8),
    convgrad_ext.Conv2d(8, 16, 1),
    convgrad_ext.Conv2d(16, 1, 3),
)
for weights in (torch.contiguous_format, torch.channels_last):
    for images in (torch.contiguous_format, torch.channels_last):
        layers = DistributedDataParallel(
            model.to(memory_format=weights), gradient_as_bucket_view=True
        )
        for _ in range(2):
            layers(torch.randn(2, 3, 9, 8).contiguous(memory_format=images)).sum().backward()
        for parameter in model.parameters():
            assert parameter.grad.stride() == parameter.stride()
            parameter.grad = None
torch.distributed.destroy_process_group()
print("through")
"""


def test_buckets_of_ddp_take_gradients_as_they_are(tmp_path: Path) -> None:
    """It warns, once, of a gradient whose strides are not those of its bucket, and copies it."""
    run = subprocess.run(
        [sys.executable, "-W", "error:Grad strides", "-c", ONE_PROCESS, f"file://{tmp_path}/store"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.split() == ["through"], run.stderr
    assert "strides" not in run.stderr
