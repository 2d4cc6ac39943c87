"""Fixtures that every test uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from kernel_names import KERNELS

import convgrad_ext
from convgrad_ext import _C

# The tests' tensors are tiny: a second thread would only wait for the first, or for a processor
# that is busy. The results of several threads have tests of their own.
torch.set_num_threads(1)

settings.register_profile("convgrad", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("convgrad")


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kernel of this processor, one after the other."""
    with convgrad_ext.use_kernel(request.param):
        yield request.param


@pytest.fixture(params=["node", "function"])
def recorder(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways to record reverse mode: csrc/autograd_node.cpp and convgrad_ext/autograd.py."""
    before = _C.record_in_python(request.param == "function")
    yield request.param
    _C.record_in_python(before)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """New memory is NaN, or the largest integer: an element that a pass does not write is seen."""
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = before
