"""The strides of gradients: those of the tensors that they belong to, so that none is copied.

Expected strides are the tensor's own, by the contract of torch's AccumulateGrad; where its elements
have gaps between them, those of a contiguous one. Expected values are PyTorch's gradients of
contiguous operands in double precision.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from layouts import (
    DENSE,
    SHAPES,
    WITH_GAPS,
    assert_gradients_are_torchs,
    contiguous_strides,
    gradients,
    leaves_of,
    random,
)
from torch.autograd import forward_ad

import convgrad_ext

# Eager autograd


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("weight_layout", DENSE)
@pytest.mark.parametrize("input_layout", DENSE)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_have_the_strides_of_their_tensors(
    shape: str, input_layout: str, weight_layout: str
) -> None:
    """In every dimension, also those of one element: the buckets of DDP compare them all."""
    leaves = leaves_of(shape, DENSE[input_layout], DENSE[weight_layout])
    params = SHAPES[shape][2]
    actual = gradients(convgrad_ext.conv2d, *leaves, **params)
    assert [g.stride() for g in actual] == [t.stride() for t in leaves]
    assert_gradients_are_torchs(actual, *leaves, **params)


@pytest.mark.parametrize("shape", ["dense", "strided", "depthwise"])
@pytest.mark.parametrize("layout", WITH_GAPS)
def test_gradients_of_tensors_with_gaps_are_contiguous(layout: str, shape: str) -> None:
    """For any format of the other operand."""
    for other in (DENSE["contiguous"], DENSE["channels_last"]):
        for layouts in ((WITH_GAPS[layout], other), (other, WITH_GAPS[layout])):
            input, weight = leaves_of(shape, *layouts)
            gapped = 0 if layouts[1] is other else 1
            if (input, weight)[gapped].is_contiguous():  # one channel has no gaps
                continue
            actual = gradients(convgrad_ext.conv2d, input, weight, **SHAPES[shape][2])
            assert actual[gapped].stride() == contiguous_strides(actual[gapped].shape)
            assert actual[1 - gapped].stride() == (input, weight)[1 - gapped].stride()
            assert_gradients_are_torchs(actual, input, weight, **SHAPES[shape][2])


@pytest.mark.parametrize("wanted", ["input", "weight"])
def test_strides_are_known_where_the_tensor_was_not_kept(wanted: str) -> None:
    """Only the other operand is saved if only one gradient is wanted."""
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
    """Without N: the dimension is added in front and removed again."""
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
