"""Gradients worked out on paper, number by number."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import convgrad_ext

EXAMPLES = Path(__file__).parents[1] / "examples"

# A 4x4 image I, rows and columns counted from 1, and a 2x2 kernel.
IMAGE = [
    [1.0, 2.0, 3.0, 4.0],
    [5.0, 6.0, 7.0, 8.0],
    [9.0, 10.0, 11.0, 12.0],
    [13.0, 14.0, 15.0, 16.0],
]
KERNEL = [[1.0, -1.0], [2.0, 3.0]]


def tensor(rows: list[list[float]]) -> Tensor:
    return torch.tensor([[rows]], dtype=torch.float64, requires_grad=True)


def gradients(
    image: Tensor, kernel: Tensor, grad_output: list[list[float]], stride: int
) -> tuple[Tensor, Tensor]:
    """(grad_input, grad_weight) through autograd."""
    output = convgrad_ext.conv2d(image, kernel, stride=stride)
    grads = torch.autograd.grad(output, (image, kernel), tensor(grad_output).detach())
    return grads[0][0, 0], grads[1][0, 0]


@pytest.mark.usefixtures("kernel")
def test_forward_of_the_4x4_image() -> None:
    """O11 = 1*1 - 1*2 + 2*5 + 3*6 = 27, and each step right or down adds 5 or 20."""
    output = convgrad_ext.conv2d(tensor(IMAGE), tensor(KERNEL))
    expected = torch.tensor([[27.0, 32, 37], [47, 52, 57], [67, 72, 77]], dtype=torch.float64)
    assert torch.equal(output[0, 0], expected)


@pytest.mark.usefixtures("kernel")
def test_grad_weight_with_stride_1() -> None:
    """grad_weight(2,1) is the sum over the 3x3 outputs of dO(r,c) * I(r+1,c).

    With dO = 1 on the diagonal: I21 + I32 + I43 = 5 + 10 + 15 = 30; the other taps shift that
    diagonal: (1,1) to 1+6+11 = 18, (1,2) to 2+7+12 = 21, (2,2) to 6+11+16 = 33.
    """
    _, grad_weight = gradients(
        tensor(IMAGE), tensor(KERNEL), [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]], stride=1
    )
    assert torch.equal(grad_weight, torch.tensor([[18.0, 21], [30, 33]], dtype=torch.float64))


@pytest.mark.usefixtures("kernel")
def test_grad_weight_with_stride_2() -> None:
    """grad_weight(2,1) = dO11*I21 + dO12*I23 + dO21*I41 + dO22*I43.

    With dO = [[1, 2], [3, 4]]: 1*5 + 2*7 + 3*13 + 4*15 = 118. The other taps:
    (1,1): 1*1 + 2*3 + 3*9 + 4*11 = 78;    (1,2): 1*2 + 2*4 + 3*10 + 4*12 = 88;
    (2,2): 1*6 + 2*8 + 3*14 + 4*16 = 128.
    """
    _, grad_weight = gradients(tensor(IMAGE), tensor(KERNEL), [[1.0, 2], [3, 4]], stride=2)
    assert torch.equal(grad_weight, torch.tensor([[78.0, 88], [118, 128]], dtype=torch.float64))


@pytest.mark.usefixtures("kernel")
def test_grad_input_with_stride_2() -> None:
    """The 2x2 patches do not overlap: each is the kernel times its dO."""
    grad_input, _ = gradients(tensor(IMAGE), tensor(KERNEL), [[1.0, 2], [3, 4]], stride=2)
    expected = [[1.0, -1, 2, -2], [2, 3, 4, 6], [3, -3, 4, -4], [6, 9, 8, 12]]
    assert torch.equal(grad_input, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.usefixtures("kernel")
def test_grad_input_is_the_full_correlation_with_the_flipped_kernel() -> None:
    """3x3 image, 2x2 kernel [[1, -1], [2, 3]], dO = [[1, 2], [3, 4]].

    dO padded by one zero all around, correlated with the kernel flipped, [[3, 2], [-1, 1]]:
      corner (1,1): 1*dO11                                     = 1
      edge   (1,2): -1*dO11 + 1*dO12                           = 1
      corner (1,3): -1*dO12                                    = -2
      edge   (2,1): 2*dO11 + 1*dO21                            = 5
      centre (2,2): 3*dO11 + 2*dO12 - 1*dO21 + 1*dO22          = 8
      edge   (2,3): 3*dO12 - 1*dO22                            = 2
      corner (3,1): 2*dO21                                     = 6
      edge   (3,2): 3*dO21 + 2*dO22                            = 17
      corner (3,3): 3*dO22                                     = 12
    """
    image = tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    grad_input, _ = gradients(image, tensor(KERNEL), [[1.0, 2], [3, 4]], stride=1)
    expected = torch.tensor([[1.0, 1, -2], [5, 8, 2], [6, 17, 12]], dtype=torch.float64)
    assert torch.equal(grad_input, expected)

    padded = tensor([[0.0, 0, 0, 0], [0, 1, 2, 0], [0, 3, 4, 0], [0, 0, 0, 0]])
    flipped = tensor([[3.0, 2], [-1, 1]])
    assert torch.equal(convgrad_ext.conv2d(padded, flipped)[0, 0], expected)


@pytest.mark.usefixtures("kernel")
def test_grad_bias_counts_every_output() -> None:
    """dO = [[1, 2], [3, 4]] sums to 10."""
    bias = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    output = convgrad_ext.conv2d(tensor(IMAGE), tensor(KERNEL), bias, stride=2)
    (grad_bias,) = torch.autograd.grad(output, bias, tensor([[1.0, 2], [3, 4]]).detach())
    assert grad_bias.item() == 10


def test_the_example_prints_the_gradients(capsys: pytest.CaptureFixture[str]) -> None:
    """With dO = 1 to 9 and stride 1: (1,1) is 1*1 + 2*2 + 3*3 + 4*5 + 5*6 + 6*7 + ... = 348."""
    runpy.run_path(str(EXAMPLES / "by_hand.py"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0::3] == ["stride 1, grad_output 1 to 9", "stride 2, grad_output 1 to 4"]
    assert lines[1::3] == [
        "grad_weight [[348.0, 393.0], [528.0, 573.0]]",
        "grad_weight [[78.0, 88.0], [118.0, 128.0]]",
    ]


# nbclient and the kernel's sockets warn of their own use of asyncio.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_the_notebook_is_the_example_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell by cell, with what it prints; `make notebook` writes it."""
    monkeypatch.syspath_prepend(EXAMPLES)
    import notebook

    kept = notebook.read()
    assert [shown(cell) for cell in kept.cells] == [shown(c) for c in notebook.executed().cells]
    assert sum(bool(printed) for *_, printed in map(shown, kept.cells)) == 1


def shown(cell: dict[str, Any]) -> tuple[str, str, str]:
    printed = "".join(output["text"] for output in cell.get("outputs", []))
    return cell["cell_type"], cell["source"], printed
