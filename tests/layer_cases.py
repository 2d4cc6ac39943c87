"""Layers of the sizes that networks have, and operands for them.

The named cases of convgrad_ext.cases are as small as gradcheck needs; these are large enough for
every path, and for Winograd's, which is off unless allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from exact import Array, Pass, wide
from kernel_names import KERNELS
from tolerance import own_products_bound
from torch import Generator, Tensor

from convgrad_ext.cases import Case


def case(
    name: str, reason: str, channels: tuple[int, int], image: tuple[int, int], **more: Any
) -> Case:
    return Case(name, reason, channels=channels, image=image, **{"kernel": (3, 3), "N": 1, **more})


# Winograd's loops compute these if allowed, on some instruction set, in one pass or in all.
TAKEN_BY_WINOGRAD = (
    case("3x3", "the common layer", (48, 48), (20, 20), padding=1),
    case("small", "from here on", (20, 20), (12, 12)),
    case("images", "pixels of several images", (32, 32), (14, 14), N=2, padding=1),
    case("unpadded", "borders are seen by few", (36, 40), (27, 26)),
    case("much_padding", "an outer row sees padding alone", (32, 32), (16, 17), padding=3),
    case("asymmetric", "each side its own", (32, 32), (18, 19), padding=((2, 0), (0, 1))),
    case("dilated", "pixels apart", (48, 48), (24, 24), dilation=2, padding=2),
    case("grouped", "32 channels a group", (64, 64), (14, 14), groups=2, padding=1),
    case("few_channels", "in grad_input alone", (3, 32), (17, 18), padding=1),
    case("5x5_strided", "a phase of three", (32, 24), (33, 32), kernel=(5, 5), stride=2, padding=2),
    case("6x6_strided", "all phases of three", (32, 32), (36, 36), kernel=(6, 6), stride=2),
)
OTHERS = (
    case("1x1", "a product of matrices", (48, 40), (14, 14), N=2, kernel=(1, 1)),
    case("1x1_strided", "pixels apart", (40, 48), (15, 14), N=2, kernel=(1, 1), stride=2),
    case("1x1_padded", "outputs that see nothing", (40, 48), (9, 10), kernel=(1, 1), padding=2),
    case("5x5", "many taps", (20, 24), (13, 14), kernel=(5, 5), padding=2),
    case("1x7", "taps of one axis", (20, 24), (9, 17), kernel=(1, 7), padding=(0, 3)),
    case("strided", "two phases an axis", (24, 32), (15, 14), stride=2, padding=1),
    case("stride_exceeds_kernel", "unseen inputs", (24, 32), (19, 17), kernel=(2, 1), stride=3),
    case("narrow", "a map of three columns", (40, 40), (29, 3), padding=1),
    case("depthwise", "one channel a group", (32, 32), (14, 15), groups=32, padding=1),
    case("depthwise_map", "rows of eight pixels", (37, 37), (9, 8), N=2, groups=37, padding=1),
    case("few_filters", "pixels fill more lanes", (24, 2), (11, 19), N=3, padding=1),
    case("multiplier", "two filters a channel", (16, 32), (13, 12), groups=16, padding=1),
)
LAYERS = TAKEN_BY_WINOGRAD + OTHERS

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
LAYOUTS = (torch.contiguous_format, torch.channels_last)
# A module's mark comes last and so varies fastest: exact sums are computed once for all kernels.
EVERY_KERNEL = [
    pytest.mark.parametrize("kernel", KERNELS, indirect=True),
    pytest.mark.usefixtures("kernel"),
]


def named(name: str) -> Case:
    (found,) = (layer for layer in LAYERS if layer.name == name)
    return found


def results(convolve: Pass, case: Case, a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """Our kernels, in both layouts."""
    for layout in LAYOUTS:
        yield convolve.ours(
            case, a.contiguous(memory_format=layout), b.contiguous(memory_format=layout)
        )


# Operands


def uniform(lo: float, hi: float, size: Sequence[int], generator: Generator) -> Tensor:
    return lo + (hi - lo) * torch.rand(tuple(size), generator=generator, dtype=torch.float64)


def signs(size: Sequence[int], generator: Generator) -> Tensor:
    return torch.randint(0, 2, tuple(size), generator=generator) * 2 - 1


def by_element(size: Sequence[int], generator: Generator) -> Tensor:
    """From 1e-6 to 1e6, log-uniform."""
    return signs(size, generator) * 10 ** uniform(-6, 6, size, generator)


def by_pixel(size: Sequence[int], generator: Generator) -> Tensor:
    """The same, but of one magnitude in all channels of a pixel or tap, and some are zero.

    Then sums over channels do not even out the magnitudes: neighbouring results
    differ by the whole range.
    """
    magnitude = 10 ** uniform(-6, 6, (1, 1, *size[2:]), generator)
    magnitude *= uniform(0, 1, magnitude.shape, generator) < 0.7
    return signs(size, generator) * magnitude * uniform(1, 2, size, generator)


def wide_range(draw: Callable[[Sequence[int], Generator], Tensor]) -> Callable[..., Any]:
    def operands(convolve: Pass, case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        a, b = (draw(*drawn).to(dtype) for drawn in generators(convolve, case))
        return a, b

    return operands


def near_overflow(convolve: Pass, case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """One operand reaches the dtype's largest number, the other is as small as sums are long."""
    largest = 0.99 * torch.finfo(dtype).max
    (size_a, generator_a), (size_b, generator_b) = generators(convolve, case)
    a = largest * uniform(-1, 1, size_a, generator_a)
    b = uniform(-0.5, 0.5, size_b, generator_b) / convolve.products(case)
    return a.to(dtype), b.to(dtype)


def generators(convolve: Pass, case: Case) -> list[tuple[Sequence[int], Generator]]:
    """The sizes of the operands, each with a random generator of its own."""
    return [(s, Generator().manual_seed(i)) for i, s in enumerate(convolve.sizes(case))]


def whole_numbers(
    convolve: Pass, case: Case, dtype: torch.dtype, least: float
) -> tuple[Tensor, Tensor]:
    """The magnitudes of a sum are just below 2^24, or below 2^53 in float64.

    Then no partial sum rounds, in any order, and one lost bit is seen. `least` is
    the smallest number in terms of the largest.
    """
    digits = 1 - math.log2(torch.finfo(dtype).eps)
    largest = math.isqrt(int(2**digits - 1) // max(1, convolve.products(case)))
    a, b = (
        torch.randint(int(least * largest), largest + 1, tuple(size), generator=generator)
        for size, generator in generators(convolve, case)
    )
    return a, b


# Exact sums


def counts(convolve: Pass, case: Case) -> Array:
    """The number of products of each element's sum."""
    return convolve.exact(case, *(np.ones(tuple(s), np.int64) for s in convolve.sizes(case)))


def exact_sums(convolve: Pass, case: Case, a: Tensor, b: Tensor) -> tuple[Array, Array]:
    """The sums, and the error that each may have."""
    magnitudes = convolve.exact(case, abs(wide(a)), abs(wide(b)))
    bound = own_products_bound(counts(convolve, case), a.dtype) * magnitudes
    return convolve.exact(case, wide(a), wide(b)), bound


DRAWS: dict[str, Callable[[Pass, Case, torch.dtype], tuple[Tensor, Tensor]]] = {
    "by_element": wide_range(by_element),
    "by_pixel": wide_range(by_pixel),
    "near_overflow": near_overflow,
}


@lru_cache(maxsize=4)
def drawn(
    draw: str, convolve: Pass, case: Case, dtype: torch.dtype
) -> tuple[tuple[Tensor, Tensor], tuple[Array, Array]]:
    """The operands and the exact sums, computed once for all kernels."""
    operands = DRAWS[draw](convolve, case, dtype)
    return operands, exact_sums(convolve, case, *operands)
