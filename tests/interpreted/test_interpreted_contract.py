"""The operators whose passes run in Triton, against the contract of torch.library."""

from __future__ import annotations

import pytest
from test_opcheck import CHEAP, OPERATORS, TRACED, check

from convgrad_ext.cases import CASES, Case
from convgrad_ext.triton import gather, reduction

SOME = {"plain", "strided", "stride_exceeds_kernel", "grouped", "depthwise_with_multiplier"}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("case", [case for case in CASES if case.name in SOME], ids=str)
def test_opcheck(name: str, case: Case) -> None:
    """Tensors without data have the results' sizes, strides and dtypes; nothing else is written."""
    gather.launch_of.cache_clear()
    reduction.launches_of.cache_clear()
    check(name, case, (*CHEAP, TRACED), (True, True))
    misses = gather.launch_of.cache_info().misses + reduction.launches_of.cache_info().misses
    assert misses > 0
