"""Geometry, second references and kernel registry; see csrc/bindings.cpp."""

from collections.abc import Sequence
from typing import TypedDict

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
    def patches_of_outputs(self) -> PatchAxis | None:
        """The outputs in pairs, for Winograd; None unless stride is 1 and taps are three."""
    def patches_of_phase(self, first: int) -> PatchAxis | None:
        """The inputs of the phase of input `first` in pairs; None unless their taps are three."""

class PatchAxis:
    """Destination pixels of an axis in pairs, its patches, and the four sources of each."""

    def __len__(self) -> int: ...
    def left_in_phase(self, p: int) -> int:
        """How many patches, this one included, follow each other in memory order."""
    def pixel(self, p: int, i: int) -> int:
        """Pixel i of patch p, 0 or 1; it may lie beyond the image."""
    def source(self, p: int, j: int) -> int:
        """Source j of patch p, 0 to 3; it may lie in the padding."""
    def sources_inside(self, p: int, patches: int) -> tuple[int, int]:
        """Which of the 2*patches + 2 sources from patch p on lie inside the image."""
    def pixels_inside(self, p: int, patches: int) -> int:
        """How many of the 2*patches pixels from patch p on lie inside the image."""
    @property
    def pixel_step(self) -> int:
        """From one pixel of a patch to the other."""
    @property
    def taps_are_reversed(self) -> bool:
        """Whether pixel i meets source i + k at the k-th tap from the last on."""

class KernelDescription(TypedDict):
    name: str
    isa: str
    dtypes: tuple[torch.dtype, ...]
    passes: tuple[str, ...]
    available: bool

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
