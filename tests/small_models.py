"""A model with convolutions at every depth, and the comparison of its runs."""

from __future__ import annotations

import torch
from tolerance import assert_sums_equal
from torch import Tensor, nn


class Plain(nn.Conv2d):
    """A subclass, which may have a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


class Model(nn.Module):
    """Convolutions at every depth, one of them twice, beside other layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.body = nn.Sequential(
            nn.BatchNorm2d(4),
            nn.ModuleDict({"deep": nn.ModuleList([nn.Conv2d(4, 4, 3, groups=2, stride=2)])}),
        )
        self.shared = nn.Conv2d(4, 4, 1, bias=False)
        self.again = nn.Sequential(self.shared)
        self.subclass = Plain(4, 4, 1)
        self.one_axis = nn.Conv1d(4, 4, 1)
        self.upward = nn.ConvTranspose2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        norm, deep = self.body
        x = deep["deep"][0](norm(self.stem(x)))
        x = self.again(self.shared(x).tanh())
        return self.upward(self.subclass(x))


CONVERTED = ("stem", "body.1.deep.0", "shared", "again.0")


def model() -> Model:
    torch.manual_seed(0)
    return Model().double()


def images(*size: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size or (2, 2, 9, 8), dtype=torch.float64, generator=generator)


def run(module: nn.Module, input: Tensor) -> list[Tensor]:
    """The output and the gradients of the trained parameters."""
    output = module(input)
    trained = [p for p in module.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(output.square().sum(), trained, allow_unused=True)
    return [output, *(g for g in gradients if g is not None)]


def assert_same_run(actual: list[Tensor], expected: list[Tensor]) -> None:
    """Equal up to rounding, in double precision."""
    for a, e in zip(actual, expected, strict=True):
        assert_sums_equal(a, e, (e.abs().max() + 1).expand(e.shape), reduction=2000)
