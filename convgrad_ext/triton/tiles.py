"""Which kernel and which tile: a committed table, so that the digits are the same in every process.

No choice depends on the number of multiprocessors or on a measurement made on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch

from convgrad_ext.triton.shapes import Convolution

FEWEST_CHANNELS = 8  # of a group that fills a part of a matrix product
FEW_SOURCES = 16  # up to here, taps and channels are one axis of the sum
PIXELS_OF_SPLIT = 8192
MOST_SPLITS = 64
MOST_SUMS = 1 << 26  # of all splits together

# The kernels, by the reason for each.
FEW_CHANNELS = f"a group has less than {FEWEST_CHANNELS} channels: lanes are channels of all"
JOINED = f"at most {FEW_SOURCES} channels: they share an axis with the taps"
BY_TAPS = "a product of matrices for each tap"
IN_BOXES = "a product of matrices for each tap, whose pixels are boxes in channels_last"

KINDS = ("half", "tf32", "float32", "float64")


@dataclass(frozen=True)
class Tile:
    """Of a program: `M` channels of the destination and `P` pixels of it; `Q` is the other axis.

    In forward and grad_input it is the sum's, in grad_weight that of the columns, and without
    products that of the destination's channels.
    """

    M: int
    P: int
    Q: int
    warps: int
    stages: int

    @property
    def options(self) -> dict[str, int]:
        """Fused multiply-adds too: Triton's default changes, and digits would with it."""
        return {
            "num_warps": self.warps,
            "num_stages": self.stages,
            "enable_fp_fusion": True,
        }

    def fitted(self, M: int, Q: int) -> Tile:
        """No larger than these extents need; a product takes 16 of each at least."""
        return replace(self, M=min(self.M, covering(M)), Q=min(self.Q, covering(Q)))


def covering(extent: int) -> int:
    """The least power of two from 16 on that is not smaller."""
    return max(16, 1 << (extent - 1).bit_length())


FIRST_WITH_BOXES = 90  # the architecture whose descriptors have units of their own

# By architecture, from which on a tile is taken, and kind_of. No kernel spills a register with them
# on three architectures, for any strides and extents: tests/test_triton_compiled.py. Nobody has
# measured how fast they are.
TABLES: dict[str, dict[int, dict[str, Tile]]] = {
    "correlate": {
        80: {
            "half": Tile(64, 64, 32, 8, 3),
            "tf32": Tile(64, 64, 32, 8, 3),
            "float32": Tile(32, 64, 16, 8, 2),
            "float64": Tile(64, 64, 16, 8, 2),
        },
        90: {"half": Tile(128, 64, 32, 8, 3), "tf32": Tile(128, 64, 32, 8, 3)},
        100: {"half": Tile(64, 64, 32, 8, 3), "float64": Tile(64, 32, 16, 8, 2)},
    },
    "sum_weight": {
        80: {
            "half": Tile(128, 32, 64, 8, 3),
            "tf32": Tile(64, 32, 64, 8, 3),
            "float32": Tile(128, 16, 64, 8, 3),
            "float64": Tile(64, 16, 64, 8, 3),
        },
        90: {"tf32": Tile(128, 32, 64, 8, 3)},
        100: {"tf32": Tile(128, 16, 64, 8, 3)},
    },
    # float32 without TF32 has no units whose operands a descriptor would bring.
    "correlate_boxes": {
        90: {
            "half": Tile(128, 128, 64, 8, 3),
            "tf32": Tile(128, 128, 32, 8, 3),
            "float64": Tile(64, 64, 16, 8, 2),
        },
    },
    "sum_weight_boxes": {
        90: {
            "half": Tile(128, 64, 128, 8, 3),
            "tf32": Tile(128, 32, 128, 8, 3),
            "float64": Tile(64, 16, 32, 8, 2),
        },
    },
    "correlate_groups": {80: dict.fromkeys(KINDS, Tile(1, 16, 64, 4, 2))},
    "sum_weight_of_groups": {80: dict.fromkeys(KINDS, Tile(1, 16, 64, 4, 2))},
}
ADDED = Tile(1, 1, 256, 4, 2)  # elements of grad_weight, by the program that adds splits


@dataclass(frozen=True)
class ShapeClass:
    """The launches that share a tile: a kernel, a kind of numbers, and extents to powers of two."""

    kernel: str
    architecture: int
    kind: str
    M: int
    Q: int
    P: int

    @staticmethod
    def of(kernel: str, architecture: int, kind: str, M: int, Q: int, P: int) -> ShapeClass:
        return ShapeClass(kernel, architecture, kind, covering(M), covering(Q), covering(P))

    @property
    def committed(self) -> Tile | None:
        """The table's tile of the latest architecture that is not later than this one."""
        tables = sorted(TABLES[self.kernel].items(), reverse=True)
        earlier = (tiles for first, tiles in tables if first <= self.architecture)
        return next((tiles[self.kind] for tiles in earlier if self.kind in tiles), None)


@dataclass(frozen=True)
class Tuned:
    """What tuning.py has chosen or read; it goes before the table."""

    tiles: Mapping[ShapeClass, Tile]
    version: int = 0


TUNED = Tuned({})  # replaced as a whole


def tile_of(shape: ShapeClass) -> Tile:
    """An architecture before the first of the table has its tiles."""
    tile = TUNED.tiles.get(shape) or shape.committed
    return tile or TABLES[shape.kernel][min(TABLES[shape.kernel])][shape.kind]


def kind_of(dtype: torch.dtype, precision: str) -> str:
    """Of a product: what its operands are rounded to, and in which units it runs."""
    if dtype in (torch.float16, torch.bfloat16):
        return "half"
    return "tf32" if precision == "tf32" else str(dtype).removeprefix("torch.")


@cache
def architecture_of(device: torch.device) -> int:
    """As in sm_90. Triton's interpreter, on the CPU, has what every one has."""
    if device.type != "cuda":
        return FIRST_WITH_BOXES
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def may_have_boxes(kind: str, architecture: int, C: int) -> bool:
    """Whether descriptors are worth asking for; `C` channels are summed."""
    return (
        architecture >= FIRST_WITH_BOXES
        and kind in TABLES["correlate_boxes"][FIRST_WITH_BOXES]
        and C > FEW_SOURCES
    )


def is_depthwise(conv: Convolution) -> bool:
    return conv.groups > 1 and min(conv.C_in, conv.C_out) < FEWEST_CHANNELS


def sum_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def precision_of(dtype: torch.dtype) -> str:
    """TF32 where PyTorch lets cuDNN's convolutions use it."""
    if dtype != torch.float32:
        return "ieee"
    setting = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return "tf32" if setting == "tf32" else "ieee"


def splits_of(pixels: int, sums: int) -> int:
    """The parts of grad_weight's sum, whose result has `sums` elements: of the shape alone."""
    return max(1, min(MOST_SPLITS, -(-pixels // PIXELS_OF_SPLIT), MOST_SUMS // sums))
