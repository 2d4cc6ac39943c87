"""The operators whose passes run in Triton, against the contract of torch.library."""

from __future__ import annotations

import pytest
from test_opcheck import CHEAP, OPERATORS, TRACED, check

from convgrad_ext.cases import CASES, Case
from convgrad_ext.triton import calls, tuning

SOME = {"plain", "strided", "stride_exceeds_kernel", "grouped", "depthwise_with_multiplier"}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("case", [case for case in CASES if case.name in SOME], ids=str)
def test_opcheck(name: str, case: Case) -> None:
    """Tensors without data have the results' sizes, strides and dtypes; nothing else is written."""
    tuning.use({})  # other tiles, even if they are the same, have other launches
    found = calls.launches_of if name == "conv2d_weight" else calls.launch_of
    before = found.cache_info().misses
    check(name, case, (*CHEAP, TRACED), (True, True))
    assert found.cache_info().misses > before
