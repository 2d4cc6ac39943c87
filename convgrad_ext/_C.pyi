"""Geometry, second references and kernel registry; see csrc/bindings.cpp."""

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor

class Axis:
    """One spatial axis: the relation i = o*stride - padding_lo + k*dilation and its three views."""

    def __init__(
        self,
        input_extent: int,
        kernel_size: int,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
        dilation: int = 1,
    ) -> None: ...
    @property
    def output_extent(self) -> int: ...
    def outputs_of_tap(self, k: int) -> tuple[int, int]:
        """The half-open range of outputs whose input under tap k lies inside the image."""
    def taps_of_output(self, o: int) -> tuple[int, int]:
        """The half-open range of taps of output o that lie inside the image."""
    def meetings_of_input(self, i: int) -> list[tuple[int, int]]:
        """Every (tap, output) that reaches input i."""
    def outputs(self) -> Walk:
        """Forward: the walk over the outputs, which reads the input."""
    def phases(self) -> int:
        """The number of phases, which begin with the inputs 0, 1, ..."""
    def inputs_of_phase(self, first: int) -> Walk:
        """grad_input: the walk over the phase of input `first`, which reads grad_output."""
    def is_in_pieces(self) -> bool:
        """Whether output o meets the inputs from o*K to o*K + K - 1, and there are no others."""
    def output_tiles_of_outputs(self) -> OutputTileAxis | None:
        """The outputs in pairs, for Winograd; None unless stride is 1 and taps are three."""
    def output_tiles_of_phase(self, first: int) -> OutputTileAxis | None:
        """The inputs of the phase of input `first` in pairs; None unless their taps are three."""

class Walk:
    """How a pass moves along an axis: it owns D pixels, each the sum over T taps of S sources."""

    @property
    def D(self) -> int:  # noqa: N802  the name in csrc
        """Destination pixels, d in [0, D)."""
    @property
    def S(self) -> int:  # noqa: N802  the name in csrc
        """Source pixels."""
    @property
    def T(self) -> int:  # noqa: N802  the name in csrc
        """Taps, t in [0, T)."""
    @property
    def origin(self) -> int:
        """source(0, 0)."""
    @property
    def step(self) -> int:
        """Sources from one destination pixel to the next."""
    @property
    def tap_step(self) -> int:
        """Sources from one tap to the next; negative in grad_input."""
    @property
    def first_pixel(self) -> int:
        """pixel(0)."""
    @property
    def pixel_step(self) -> int:
        """Pixels of the image from one destination pixel to the next."""
    @property
    def first_tap(self) -> int:
        """tap(0)."""
    @property
    def weight_step(self) -> int:
        """Taps of the weight from one tap to the next."""
    def taps_of(self, d: int) -> tuple[int, int]:
        """The half-open range of taps whose source is inside the image."""
    def new_sources_of(self, d: int) -> tuple[int, int]:
        """The half-open range of sources of d that are beyond all of d - 1."""
    def interior(self) -> tuple[int, int]:
        """The half-open range of destination pixels that meet every tap."""
    def pixels_apart(self) -> int:
        """The distance of two destination pixels that share sources: see tap_groups."""
    def tap_groups(self, taps: tuple[int, int], largest: int) -> list[list[int]]:
        """Groups of taps that share sources, as [first tap, step from tap to tap, count].

        source(d, next tap of the group) = source(d + pixels_apart(), tap).
        """
    def pixel_groups(self, pixels: tuple[int, int], most: int) -> list[tuple[int, int]]:
        """Groups of pixels that share sources, as (first pixel, count)."""
    def tap_segments(self, pixels: tuple[int, int]) -> list[list[tuple[int, int]]]:
        """The pixels in ranges of the same taps, as [pixels, taps]."""
    def source(self, d: int, t: int) -> int:
        """origin + d*step + t*tap_step; it may be in the padding."""
    def pixel(self, d: int) -> int:
        """Destination pixel d in the image."""
    def tap(self, t: int) -> int:
        """Tap t in the weight."""

class OutputTileAxis:
    """Destination pixels of an axis in pairs, its output tiles, and the four sources of each."""

    def __len__(self) -> int: ...
    def left_in_phase(self, p: int) -> int:
        """The number of tiles, tile p included, that follow each other in memory order."""
    def pixel(self, p: int, i: int) -> int:
        """Pixel i of tile p, 0 or 1; it may be beyond the image."""
    def source(self, p: int, j: int) -> int:
        """Source j of tile p, 0 to 3; it may be in the padding."""
    def sources_inside(self, p: int, tiles: int) -> tuple[int, int]:
        """The range of the 2*tiles + 2 sources from tile p on that are inside the image."""
    def pixels_inside(self, p: int, tiles: int) -> int:
        """The number of the 2*tiles pixels from tile p on that are inside the image."""
    @property
    def pixel_step(self) -> int:
        """From one pixel of a tile to the other."""
    @property
    def taps_are_reversed(self) -> bool:
        """Whether pixel i meets source i + k at the k-th tap from the last on."""

class KernelDescription(TypedDict):
    name: str
    isa: str
    device: str
    dtypes: tuple[torch.dtype, ...]
    passes: tuple[str, ...]
    available: bool

class PlanDescription(TypedDict):
    path: str
    reason: str
    phases: int
    blocking: dict[str, str]
    packed_bytes: int
    scratch_bytes: int
    padded_share: float

def plan(
    pass_name: str,
    input: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> list[PlanDescription]:
    """The plans of a pass, of equal phases together; none for tensors without elements."""

def autocast(tensor: Tensor, dtype: torch.dtype) -> Tensor: ...
def empty_output(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The result of conv2d, checked and allocated but not filled; so are the next two."""

def empty_grad_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    grad_strides: Sequence[int] | None,
) -> Tensor: ...
def empty_grad_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    grad_strides: Sequence[int] | None,
) -> Tensor: ...
def cache_sizes() -> tuple[int, int]:
    """Bytes of L1d and L2 that plans count with."""

def set_cache_sizes(sizes: tuple[int, int] | None) -> tuple[int, int]:
    """For every thread; None stands for the first ones. Returns the sizes before."""

def costs(isa: str) -> dict[str, float]:
    """The costs that decide for or against Winograd on the kernel `isa`."""

def set_costs(isa: str, costs: dict[str, float]) -> None:
    """Replaces some of them, for every thread."""

# Single kernels of an instruction set, as csrc/cpu/kernels/tiles.h has them. Memory is a tensor of
# one axis and an offset in elements.
Memory = tuple[Tensor, int]

def tile_isa_runs(isa: str) -> bool: ...
def tile_shape(isa: str, bytes: int) -> tuple[int, int]:
    """Lanes of a vector of elements of `bytes`, and the vectors of sums that registers hold."""

def tile(
    isa: str,
    rows_vecs: tuple[int, int],
    a: Memory,
    b: Memory,
    acc: Memory,
    steps: dict[str, Any],
    fresh: bool,
) -> None: ...
def tile_pack(isa: str, tensor: Memory, vectors: Memory, steps: Sequence[int]) -> None: ...
def tile_unpack(isa: str, vectors: Memory, tensor: Memory, steps: Sequence[int]) -> None: ...
def tile_load_rows(
    isa: str, source: Memory, step: int, to: Memory, count: int, rows: Sequence[int]
) -> None: ...
def tile_split_rows(
    isa: str,
    source: Memory,
    step: int,
    even: Memory,
    odd: Memory,
    count: int,
    rows: Sequence[int],
) -> None: ...
def tile_store_rows(
    isa: str,
    source: Memory,
    bias: float,
    to: Memory,
    step: int,
    count: int,
    rows: Sequence[int],
) -> None: ...
def tile_slide(
    isa: str,
    spread: bool,
    extents: Sequence[int],
    index: Sequence[int],
    source: Memory,
    weight: Memory,
    acc: Memory,
    steps: dict[str, Any],
    fresh: bool,
) -> None: ...
def tile_slide_taps(
    isa: str,
    extents: Sequence[int],
    columns: Sequence[int],
    index: Sequence[int],
    source: Memory,
    grad: Memory,
    acc: Memory,
    steps: dict[str, Any],
    fresh: bool,
) -> None: ...
def tile_copy_vectors(
    isa: str, source: Memory, source_stride: int, to: Memory, to_stride: int, count: int
) -> None: ...
def tile_transform_sources(
    isa: str,
    rows: Memory,
    row_size: int,
    odd_columns: int,
    transformed: Memory,
    stride: int,
    count: int,
) -> None: ...
def tile_transform_taps(
    isa: str, taps: Memory, steps: tuple[int, int], transformed: Memory, stride: int, count: int
) -> None: ...
def tile_restore_outputs(
    isa: str,
    transformed: Memory,
    stride: int,
    bias: float,
    upper: Memory,
    lower: Memory,
    count: int,
) -> None: ...
def tile_transform_grads(
    isa: str, upper: Memory, lower: Memory, transformed: Memory, stride: int, count: int
) -> None: ...
def tile_restore_taps(
    isa: str, transformed: Memory, taps: Memory, stride: int, count: int
) -> None: ...
def scatter_grad_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor: ...
def scatter_grad_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor: ...
def grad_bias(grad_output: Tensor) -> Tensor: ...
def fma_peak_gflops(dtype: torch.dtype, threads: int = 1) -> float:
    """10^9 operations a second that `threads` threads reach with multiply-adds in registers."""

def bandwidth_gbs(threads: int = 1) -> float:
    """10^9 bytes a second that `threads` threads read and write in memory."""

compiler: str

def kernels() -> list[KernelDescription]: ...
def select_kernel(name: str | None) -> str | None: ...
def winograd_allowed() -> bool: ...
def allow_winograd(allowed: bool) -> bool:
    """Returns what held before."""

def plain_conv2d(
    input: object,
    weight: object,
    bias: object,
    stride: object,
    padding: object,
    dilation: object,
    groups: object,
    /,
) -> Tensor | None:
    """conv2d of plain tensors, ints and tuples of ints; None, and nothing done, for others."""

def record_in_python(wanted: bool) -> bool:
    """Has this thread's calls recorded by the autograd Functions; returns the setting before."""
