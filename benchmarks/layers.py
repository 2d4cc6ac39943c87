"""The layers that are measured: the files in shapes/, one a class, and the work in each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

from benchmarks.errors import BadInputError, one_of
from convgrad_ext._C import Axis

SHAPES = Path(__file__).parent / "shapes"
QUICK = "quick"

Size = tuple[int, int, int, int]


@dataclass(frozen=True)
class Layer:
    """One convolution; the fields are the columns of the files, in their order."""

    kind: str  # the column `class`
    name: str
    N: int
    C_in: int
    H_in: int
    W_in: int
    C_out: int
    K_h: int
    K_w: int
    stride: int
    padding_h: int
    padding_w: int
    dilation: int
    groups: int

    @property
    def axes(self) -> tuple[Axis, Axis]:
        return (
            Axis(self.H_in, self.K_h, self.stride, (self.padding_h,) * 2, self.dilation),
            Axis(self.W_in, self.K_w, self.stride, (self.padding_w,) * 2, self.dilation),
        )

    @property
    def input_size(self) -> Size:
        return self.N, self.C_in, self.H_in, self.W_in

    @property
    def weight_size(self) -> Size:
        return self.C_out, self.C_in // self.groups, self.K_h, self.K_w

    @property
    def output_size(self) -> Size:
        h, w = self.axes
        return self.N, self.C_out, h.output_extent, w.output_extent

    @property
    def outputs_per_channel(self) -> int:
        N, _, H_out, W_out = self.output_size
        return N * H_out * W_out

    def gflop(self) -> float:
        """The nominal work of one pass: every output meets every tap; a multiply-add is two."""
        meetings = self.outputs_per_channel * self.K_h * self.K_w
        return 2e-9 * self.C_out * (self.C_in // self.groups) * meetings

    def effective_gflop(self) -> float:
        """The work that has to be done: a tap on padding multiplies nothing."""
        h, w = self.axes
        meetings = self.N * meetings_inside(h, self.K_h) * meetings_inside(w, self.K_w)
        return 2e-9 * self.C_out * (self.C_in // self.groups) * meetings

    def elements(self) -> int:
        """Numbers in input, weight and output, each of which a pass reads or writes."""
        return sum(map(prod, (self.input_size, self.weight_size, self.output_size)))

    def columns(self) -> int:
        """Numbers in the matrix that unfold makes of the input."""
        return self.outputs_per_channel * self.C_in * self.K_h * self.K_w

    def as_dict(self) -> dict[str, int | str]:
        return asdict(self)


def meetings_inside(axis: Axis, kernel_size: int) -> int:
    """The pairs of an output and a tap that meet inside the image."""
    return sum(hi - lo for lo, hi in map(axis.outputs_of_tap, range(kernel_size)))


TINY = Layer("tiny", "tiny", 2, 4, 5, 5, 4, 3, 3, 1, 1, 1, 1, 1)


def class_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in SHAPES.glob("*.txt") if path.stem != QUICK))


def load_layers(classes: Sequence[str] | None = None, quick: bool = False) -> list[Layer]:
    """The layers of the named classes, or of all of them."""
    wanted = one_of("class", classes or class_names(), class_names())
    if quick:
        return [layer for layer in read_layers(SHAPES / "quick.txt") if layer.kind in wanted]
    return [layer for name in wanted for layer in read_layers(SHAPES / f"{name}.txt")]


def read_layers(path: Path) -> list[Layer]:
    lines = enumerate(path.read_text().splitlines(), start=1)
    return [
        parse_layer(line, f"{path.name}:{number}")
        for number, line in lines
        if line and not line.startswith("#")
    ]


def parse_layer(line: str, where: str) -> Layer:
    kind, name, *numbers = line.split()
    try:
        return Layer(kind, name, *map(int, numbers))
    except (TypeError, ValueError):
        raise BadInputError(f"{where} is not a layer of 14 columns: {line!r}") from None
