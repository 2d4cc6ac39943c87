"""torch.jit.script and torch.jit.trace of a model with our layers.

Expected values come from PyTorch's convolution of the padded image; a scripted layer is the same
arithmetic as the layer, so they agree bit for bit.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convgrad_ext
from convgrad_ext.cases import CASES, Case

RUNS = 3  # the first two runs of a scripted function only observe it, the third is optimized


def layer_of(case: Case, **options: Any) -> convgrad_ext.Conv2d:
    torch.manual_seed(0)
    return convgrad_ext.Conv2d(
        *case.channels, case.kernel, dtype=torch.float64, **case.params, **options
    )


def assert_close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_scripted_layer(case: Case, bias: bool) -> None:
    """Values and gradients, in each run of the script."""
    layer = layer_of(case, bias=bias)
    scripted = torch.jit.script(layer)
    image = case.tensors(torch.float64)[0].requires_grad_()
    leaves = [image, *layer.parameters()]
    expected = case.torch_conv2d(*leaves)
    expected_grads = torch.autograd.grad((expected**2).sum(), leaves)
    for _ in range(RUNS):
        output = scripted(image)
        assert_close(output, expected)
        assert_close(torch.autograd.grad((output**2).sum(), leaves), expected_grads)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("padding", "stride", "around"),
    [
        ((1, 2), 1, (2, 2, 1, 1)),
        (((2, 0), (0, 1)), 1, (0, 1, 2, 0)),
        ("same", 1, (1, 1, 1, 1)),
        ("same", 2, (0, 1, 1, 1)),  # 7 rows make 4: 9 are read; 6 columns make 3: 7 are read
    ],
    ids=["pair", "asymmetric", "same", "same_strided"],
)
def test_scripted_padding_modes(mode: str, padding: Any, stride: int, around: Any) -> None:
    """The sides by hand, (left, right, top, bottom)."""
    layer = convgrad_ext.Conv2d(2, 3, 3, stride, padding, padding_mode=mode, dtype=torch.float64)
    image = torch.randn(2, 2, 7, 6, dtype=torch.float64)
    expected = F.conv2d(F.pad(image, around, mode), layer.weight, layer.bias, stride)
    assert_close(torch.jit.script(layer)(image), expected)


@pytest.mark.parametrize("padding", [1, ((1, 2), (0, 1)), "same"], ids=str)
def test_scripted_layer_pads_as_a_changed_layer_does(padding: Any) -> None:
    """Libraries change the sides of a layer, before and after it is scripted."""
    layer = convgrad_ext.Conv2d(1, 2, 3, 2, padding, padding_mode="circular", dtype=torch.float64)
    image = torch.randn(1, 1, 7, 6, dtype=torch.float64)
    layer._reversed_padding_repeated_twice = [2, 0, 0, 1]
    scripted = torch.jit.script(layer)
    for sides in ([2, 0, 0, 1], [0, 3, 1, 0]):
        scripted._reversed_padding_repeated_twice = sides
        padded = F.pad(image, sides, mode="circular")
        assert_close(scripted(image), F.conv2d(padded, layer.weight, layer.bias, 2))


def test_scripted_same_padding_follows_the_image() -> None:
    """Strided 'same' is computed for each size: output ceil(H/2) x ceil(W/3)."""
    scripted = torch.jit.script(convgrad_ext.Conv2d(1, 2, 3, stride=(2, 3), padding="same"))
    for image, output in [((7, 6), (4, 2)), ((8, 7), (4, 3)), ((3, 10), (2, 4)), ((1, 1), (1, 1))]:
        assert scripted(torch.zeros(1, 1, *image)).shape == (1, 2, *output)


def test_scripted_one_image_without_a_batch() -> None:
    layer, image = layer_of(CASES[0]), torch.randn(2, 5, 4, dtype=torch.float64)
    assert_close(torch.jit.script(layer)(image), F.conv2d(image, layer.weight, layer.bias))


def test_scripted_double_backward() -> None:
    layer, image = layer_of(CASES[0]), torch.randn(2, 2, 5, 4, dtype=torch.float64)

    def penalty(conv: Any) -> Any:
        leaf = image.clone().requires_grad_()
        (grad,) = torch.autograd.grad((conv(leaf) ** 2).sum(), leaf, create_graph=True)
        return torch.autograd.grad((grad**2).sum(), [leaf, layer.weight])

    plain = nn.Conv2d(2, 3, (3, 2), dtype=torch.float64)
    plain.weight, plain.bias = layer.weight, layer.bias
    assert_close(penalty(torch.jit.script(layer)), penalty(plain))


def test_scripted_layer_refuses_as_the_layer_does() -> None:
    scripted = torch.jit.script(convgrad_ext.Conv2d(4, 6, 3))
    with pytest.raises(RuntimeError, match=r"expected input\[2, 3, 5, 5\] to have 4 channels"):
        scripted(torch.zeros(2, 3, 5, 5))


def test_scripted_layer_in_float16_and_float64() -> None:
    """`to` changes a scripted layer like any other."""
    scripted = torch.jit.script(convgrad_ext.Conv2d(1, 1, 1))
    for dtype in (torch.float16, torch.float64):
        assert scripted.to(dtype)(torch.zeros(1, 1, 2, 2, dtype=dtype)).dtype == dtype


class Net(nn.Module):
    """A model whose layers differ in the type of their padding, with a loop and a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(1, 4, 3, padding=1),
                nn.Conv2d(4, 4, 3, padding="same", groups=2),
                nn.Conv2d(4, 4, (3, 1), padding="valid", bias=False),
                nn.Conv2d(4, 4, 3, padding=(0, 1), padding_mode="circular"),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        if x.shape[0] > 1:
            x = x + 1
        return x


def test_scripted_converted_model() -> None:
    """One convolution of ours for each layer, frozen as well, and the numbers of nn.Conv2d."""
    torch.manual_seed(0)
    model, image = Net().double(), torch.randn(2, 1, 9, 8, dtype=torch.float64)
    expected = model(image)
    scripted = torch.jit.script(convgrad_ext.convert(model))
    graph = str(scripted.inlined_graph)
    assert graph.count("convgrad_ext::conv2d(") == 4
    assert "aten::conv2d(" not in graph
    frozen = torch.jit.freeze(scripted.eval())
    for _ in range(RUNS):
        assert_close(scripted(image), expected)
        assert_close(frozen(image), expected)


def test_saved_and_loaded_in_another_process(tmp_path: Path) -> None:
    """It imports convgrad_ext, which registers the operators, and trains the loaded layer."""
    torch.manual_seed(0)
    model, image = nn.Sequential(*convgrad_ext.convert(Net()).layers), torch.randn(2, 1, 9, 8)
    torch.jit.save(torch.jit.script(model), tmp_path / "scripted.pt")
    torch.jit.save(torch.jit.trace(model, (image,)), tmp_path / "traced.pt")
    output = model(image)
    grads = torch.autograd.grad(output.sum(), list(model.parameters()))
    torch.save((image, output.detach(), grads), tmp_path / "expected.pt")
    code = """
import warnings, torch, convgrad_ext
warnings.simplefilter("ignore")
torch.set_num_threads(1)
image, output, grads = torch.load("expected.pt")
for file in ("scripted.pt", "traced.pt"):
    model = torch.jit.load(file)
    for _ in range(3):
        actual = model(image)
        torch.testing.assert_close(actual, output)
        actual_grads = torch.autograd.grad(actual.sum(), list(model.parameters()))
        torch.testing.assert_close(actual_grads, grads)
    print(file)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.stdout.split() == ["scripted.pt", "traced.pt"], found.stderr


@pytest.mark.parametrize("case", [c for c in CASES if c.in_torch or c.padding != "same"], ids=str)
def test_traced_layer(case: Case) -> None:
    """The trace contains one operator of ours, and takes batches of another size."""
    layer = layer_of(case)
    image, weight, bias = (case.tensors(torch.float64)[0], layer.weight, layer.bias)
    traced = torch.jit.trace(layer, (image,))
    kinds = [node.kind() for node in traced.inlined_graph.nodes()]
    assert kinds.count("convgrad_ext::conv2d") == 1
    assert not [kind for kind in kinds if kind.startswith("aten::")]
    larger = torch.cat([image, image + 1])
    assert_close(traced(larger), case.torch_conv2d(larger, weight, bias))


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_a_trace_of_strided_same_says_what_it_keeps(mode: str) -> None:
    """Its padding is a number of the traced image, and PyTorch warns of that."""
    layer = convgrad_ext.Conv2d(1, 1, 3, stride=2, padding="same", padding_mode=mode).double()
    image = torch.randn(1, 1, 8, 7, dtype=torch.float64)
    with pytest.warns(torch.jit.TracerWarning, match=r"padding='same' with stride=\(2, 2\)"):
        traced = torch.jit.trace(layer, (image,))
    assert_close(traced(image), layer(image))


@pytest.mark.parametrize("padding", [((1, 0), (0, 2)), "same"], ids=str)
def test_traced_gradients(padding: Any) -> None:
    """conv2d_input and conv2d_weight, called in the traced function."""
    image, weight = torch.randn(2, 1, 5, 4).double(), torch.randn(3, 1, 3, 3).double()
    case = Case("", "", padding=padding, same=(1, 1, 1, 1))
    grad = torch.ones_like(case.torch_conv2d(image, weight))

    def gradients(image: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        grad_input = convgrad_ext.conv2d_input((2, 1, 5, 4), weight, grad, padding=padding)
        grad_weight = convgrad_ext.conv2d_weight(image, (3, 1, 3, 3), grad, padding=padding)
        return grad_input, grad_weight

    leaves = [image.requires_grad_(), weight.requires_grad_()]
    expected = torch.autograd.grad(case.torch_conv2d(*leaves), leaves, grad)
    assert_close(torch.jit.trace(gradients, (*leaves, grad))(*leaves, grad), expected)
