"""How often a layer pays each cost of csrc/cpu/costs.h: csrc/cpu/winograd/choice.cpp in Python.

Tests hold that both choose alike. benchmarks/calibrate.py fits the costs to times.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isqrt

import torch

from convgrad_ext import _C

Costs = dict[str, float]

VECTOR_BYTES = {"avx512": 64, "avx2": 32, "baseline": 16}
FILTERS = 64  # that a choice counts with


@dataclass(frozen=True)
class Sample:
    """A pass of a layer of one image, 64 filters of 3x3 and as much padding as keeps its size."""

    C_in: int
    size: int
    dilation: int
    pass_name: str

    @property
    def axis(self) -> _C.Axis:
        return _C.Axis(self.size, 3, 1, (self.dilation,) * 2, self.dilation)


@dataclass(frozen=True)
class Features:
    """How often a pass pays each cost in either form; the vectors' multiply-adds over all taps."""

    winograd: Costs
    direct: Costs
    products: float

    def over_all_taps(self, costs: Costs) -> float:
        return self.products + dot(self.direct, costs)

    def in_winograds_form(self, costs: Costs) -> float:
        return dot(self.winograd, costs)

    def takes_winograd(self, costs: Costs) -> bool:
        return self.in_winograds_form(costs) < self.over_all_taps(costs)


def dot(counts: Costs, costs: Costs) -> float:
    return sum(count * costs[name] for name, count in counts.items())


def features_of(sample: Sample, isa: str, dtype: torch.dtype) -> Features:
    lanes = VECTOR_BYTES[isa] // dtype.itemsize
    if sample.pass_name == "grad_weight":
        return features_of_grad_weight(sample, lanes, channels_of_item(dtype))
    forward = sample.pass_name == "forward"
    sources, results = (sample.C_in, FILTERS) if forward else (FILTERS, sample.C_in)
    return features_of_gather(sample, lanes, sources, results)


def features_of_gather(sample: Sample, lanes: int, sources: int, results: int) -> Features:
    tiles, blocks = ceil(count_tiles(sample) / lanes), ceil(results / lanes)
    winograd = {name: sources * count for name, count in count_rows(sample, lanes).items()}
    winograd |= {"products": tiles * sources * results, "pair": sources * results}
    winograd |= {"tiles": tiles * blocks, "outputs": tiles * results}
    pairs = sources * blocks * lanes
    direct: Costs = {"direct_pair": pairs, "direct_pixels": sample.size**2 / lanes * results}
    return Features(winograd, direct, meetings(sample) / lanes * pairs)


def features_of_grad_weight(sample: Sample, lanes: int, most: int) -> Features:
    vectors, tiles = ceil(FILTERS / lanes), count_tiles(sample)
    parts = ceil(FILTERS / most)  # of the filters, each of which transforms the sources anew
    rows = count_rows(sample, lanes).items()
    winograd = {name: sample.C_in * parts * count for name, count in rows}
    winograd["products"] = tiles * vectors * sample.C_in
    grads = "grads_apart" if sample.dilation > 1 else "grads"
    winograd[grads] = tiles * vectors * ceil(sample.C_in / most)
    return Features(winograd, {}, meetings(sample) * sample.C_in * vectors)


def output_tiles(sample: Sample) -> _C.OutputTileAxis:
    """Along either axis; the inputs of grad_input make as many as the outputs."""
    tiles = sample.axis.output_tiles_of_outputs()
    assert tiles is not None
    return tiles


def count_tiles(sample: Sample) -> int:
    return len(output_tiles(sample)) ** 2


def count_rows(sample: Sample, lanes: int) -> Costs:
    """What transforming the sources of a channel pays, for an image."""
    tiles = output_tiles(sample)
    per_phase = tiles.left_in_phase(0)
    rows = len(tiles) * (len(tiles) // per_phase)
    apart = rows * per_phase if sample.dilation > 1 else 0
    return {"row": rows, "row_vector": rows * ceil(per_phase / lanes), "row_apart": apart}


def meetings(sample: Sample) -> int:
    return sum(hi - lo for lo, hi in map(sample.axis.outputs_of_tap, range(3))) ** 2


def channels_of_item(dtype: torch.dtype) -> int:
    """Of either side of grad_weight: as many as have 9/16 of a thread's scratch for their sums."""
    scratch = min(_C.cache_sizes()[1], 1 << 20)
    most = isqrt(9 * scratch // 16 // (16 * dtype.itemsize))
    return max(32, most // 32 * 32)
