"""Which kernel and which tile: a committed table, so that the digits are the same in every process.

No choice depends on the number of multiprocessors or on a measurement made on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from convgrad_ext.triton.shapes import Convolution

FEWEST_CHANNELS = 8  # of a group that fills a part of a matrix product
FEW_SOURCES = 16  # up to here, taps and channels are one axis of the sum
PIXELS_OF_SPLIT = 8192
MOST_SPLITS = 64
MOST_SUMS = 1 << 26  # of all splits together


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


# By kind_of. No kernel spills a register with them on three architectures, for any strides and
# extents: tests/test_triton_compiled.py. Nobody has measured how fast they are.
CORRELATE = {
    "half": Tile(128, 64, 32, 8, 3),
    "tf32": Tile(128, 64, 32, 8, 3),
    "float32": Tile(32, 64, 16, 8, 2),
    "float64": Tile(64, 64, 16, 8, 2),
}
WEIGHT = {
    "half": Tile(128, 32, 64, 8, 3),
    "tf32": Tile(128, 32, 64, 8, 3),
    "float32": Tile(64, 16, 64, 8, 2),
    "float64": Tile(64, 32, 64, 8, 3),
}
DEPTHWISE = Tile(1, 16, 64, 4, 2)
ADDED = Tile(1, 1, 256, 4, 2)  # elements of grad_weight, by the program that adds splits


def kind_of(dtype: torch.dtype, precision: str) -> str:
    """Of a product: what its operands are rounded to, and in which units it runs."""
    if dtype in (torch.float16, torch.bfloat16):
        return "half"
    return "tf32" if precision == "tf32" else str(dtype).removeprefix("torch.")


def is_depthwise(conv: Convolution) -> bool:
    return conv.groups > 1 and min(conv.C_in, conv.C_out) < FEWEST_CHANNELS


def sum_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def precision_of(dtype: torch.dtype) -> str:
    """TF32 where PyTorch lets cuDNN's convolutions use it."""
    setting = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return "tf32" if dtype == torch.float32 and setting == "tf32" else "ieee"


def splits_of(pixels: int, sums: int) -> int:
    """The parts of grad_weight's sum, whose result has `sums` elements: of the shape alone."""
    return max(1, min(MOST_SPLITS, -(-pixels // PIXELS_OF_SPLIT), MOST_SUMS // sums))
