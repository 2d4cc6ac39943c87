"""Copies of layers that keep their class."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from kept_layers import kept, runs_here
from one_layer import IMAGES, assert_equal, conv
from torch import nn

from convgrad_ext import convert


def by_pickle(module: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(module))


def by_file(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("inside", [True, False], ids=["in_a_model", "alone"])
@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle, by_file])
def test_copies_are_on_their_own(copied: Callable[[Any], Any], inside: bool) -> None:
    """The original changes and is deleted. The copy computes the same as before, on our loops."""
    layer = kept(padding=1)
    module = nn.Sequential(layer, nn.ReLU()) if inside else layer
    expected = module(IMAGES)
    other = copied(module)
    with torch.no_grad():
        layer.weight.zero_()
    layer.stride = (2, 2)
    assert torch.equal(other(IMAGES), expected)
    del layer, module
    gc.collect()
    assert torch.equal(other(IMAGES), expected)
    assert runs_here(other)
    (other[0] if inside else other).stride = (3, 3)
    assert other(IMAGES).shape == (2, 6, 3, 3)


def test_a_copy_can_be_copied() -> None:
    other = copy.deepcopy(by_pickle(copy.deepcopy(kept())))
    assert runs_here(other)
    assert torch.equal(other(IMAGES), kept()(IMAGES))


def test_replicas_compute_with_their_own_parameters() -> None:
    """As DataParallel makes them: the attributes are shared, the parameters are not."""
    layer = kept(bias=False)
    replica = layer._replicate_for_data_parallel()
    replica.weight, replica.bias = 2 * layer.weight, None
    assert_equal(replica(IMAGES), 2 * conv(bias=False)(IMAGES))
    assert runs_here(replica)


def test_functional_call_takes_other_parameters() -> None:
    layer = kept(bias=False)
    output = torch.func.functional_call(layer, {"weight": 2 * layer.weight}, (IMAGES,))
    assert_equal(output, 2 * conv(bias=False)(IMAGES))


def test_a_shallow_copy_says_when_its_original_is_gone() -> None:
    layer = kept()
    expected = layer(IMAGES)
    other = copy.copy(layer)
    assert torch.equal(other(IMAGES), expected)
    del layer
    with pytest.raises(ReferenceError, match="shallow copy, whose original is gone"):
        other(IMAGES)
    assert torch.equal(convert(other, keep_class=True)(IMAGES), expected)


def test_a_shallow_copy_is_bound_to_itself_by_another_convert() -> None:
    layer = kept()
    other = convert(copy.copy(layer), keep_class=True)
    other.padding = (1, 1)
    assert other(IMAGES).shape == (2, 6, 9, 8)
    assert layer(IMAGES).shape == (2, 6, 7, 6)


def test_a_model_that_is_dropped_is_freed_at_once() -> None:
    """Its memory would otherwise wait for the garbage collector."""
    gc.disable()
    try:
        layer = kept()
        layer(IMAGES)
        alive = weakref.ref(layer)
        del layer
        assert alive() is None
    finally:
        gc.enable()
