"""What explain_plan says of CUDA tensors; here of the CPU's, whose sizes are all it reads."""

from __future__ import annotations

import pytest
import torch

from convgrad_ext.cases import Case
from convgrad_ext.plans import PASSES, Plan
from convgrad_ext.triton import plans

STRIDED = Case("strided", "", N=2, channels=(24, 40), image=(9, 8), stride=(2, 2), padding=(1, 1))
FIRST = Case("first", "", N=2, channels=(3, 40), image=(9, 8), stride=(1, 1), padding=(0, 0))
DEPTHWISE = Case(
    "depthwise", "", channels=(24, 24), groups=24, stride=(1, 1), padding=(2, 0), image=(6, 7)
)


def plans_of(case: Case) -> dict[str, Plan]:
    input, weight, _ = case.tensors(torch.float32)
    output = case.torch_conv2d(input, weight)
    params = (case.stride, case.sides, (1, 1), case.groups)
    found = plans.plans_of(params, input, weight, output)
    return {name: Plan(name, **fields) for name, fields in found.items()}


@pytest.mark.parametrize(
    ("case", "path", "reason"),
    [
        (STRIDED, "product", "a product of matrices for each tap"),
        (FIRST, "product", "at most 16 channels: they share an axis with the taps"),
        (DEPTHWISE, "depthwise", "a group has less than 8 channels: lanes are channels of all"),
    ],
    ids=str,
)
def test_the_kernel_and_its_reason(case: Case, path: str, reason: str) -> None:
    found = plans_of(case)
    assert tuple(found) == PASSES
    assert {plan.path for plan in found.values()} == {path}
    assert found["forward"].reason == found["grad_weight"].reason == reason


def test_phases_and_memory() -> None:
    found = plans_of(STRIDED)
    assert found["grad_input"].phases == 4
    assert found["grad_weight"].packed_bytes == 4 * 40 * 24 * 3 * 2  # one split
    assert found["grad_weight"].blocking["pixels of a split"] == str(2 * 5 * 5)
    assert "grad_input, 4 phases: product" in str(found["grad_input"])


@pytest.mark.parametrize("case", [STRIDED, FIRST, DEPTHWISE], ids=str)
def test_taps_that_meet_padding(case: Case) -> None:
    """Counted pair by pair, from the relation i = o*stride - padding + k."""
    counts = []
    for axis in (0, 1):
        extent, K, s = case.image[axis], case.kernel[axis], case.stride[axis]
        lo, hi = case.sides[2 * axis : 2 * axis + 2]
        outputs = (extent + lo + hi - K) // s + 1
        inside = sum(0 <= o * s - lo + k < extent for o in range(outputs) for k in range(K))
        counts.append((inside, outputs * K))
    (met_h, all_h), (met_w, all_w) = counts
    expected = 1 - met_h * met_w / (all_h * all_w)
    assert plans_of(case)["forward"].padded_share == pytest.approx(expected)
