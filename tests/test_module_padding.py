"""Layers with padding beyond torch.nn's, and layers that are changed after they were made."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from conv_layers import (
    CONFIGURATIONS,
    IMAGES,
    MODES,
    assert_same_run,
    built,
    images,
    padded_first,
    pair,
)
from torch import nn

import convgrad_ext

# Padding beyond torch's


@pytest.mark.parametrize("size", [IMAGES, IMAGES[1:]], ids=["batch", "one_image"])
@pytest.mark.parametrize("padding", [((1, 0), (2, 3)), [[0, 2], [1, 0]]], ids=["tuples", "lists"])
@pytest.mark.parametrize("mode", MODES)
def test_asymmetric_padding(mode: str, padding: Any, size: tuple[int, ...]) -> None:
    layer = built(convgrad_ext.Conv2d, padding=padding, padding_mode=mode, stride=2)
    (top, bottom), (left, right) = padding
    expected = padded_first(layer, (left, right, top, bottom), mode)
    assert_same_run(layer, expected, images(*size))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("arguments", "sides"),
    [
        # 9 rows and 8 columns; outputs ceil(9/s) x ceil(8/s); sides are (left, right, top, bottom)
        pytest.param({"stride": 2}, (0, 1, 1, 1), id="odd_kernel"),
        pytest.param({"stride": 2, "kernel_size": (4, 2)}, (0, 0, 1, 2), id="even_kernel"),
        pytest.param({"stride": (1, 3)}, (0, 1, 1, 1), id="one_axis"),
        pytest.param({"stride": (3, 1), "dilation": 2}, (2, 2, 1, 1), id="dilated"),
        pytest.param({"stride": 3, "kernel_size": 1}, (0, 0, 0, 0), id="stride_exceeds_kernel"),
    ],
)
def test_same_padding_with_a_stride(arguments: dict, sides: tuple, mode: str) -> None:
    layer = built(convgrad_ext.Conv2d, padding="same", padding_mode=mode, **arguments)
    expected = padded_first(layer, sides, mode)
    assert_same_run(layer, expected)
    extents = zip(IMAGES[2:], layer.stride, strict=True)
    assert layer(images()).shape[2:] == tuple(-(-extent // stride) for extent, stride in extents)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(
            {"padding": ((1, 0), (2, 3))},
            "Conv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), padding=((1, 0), (2, 3)))",
            id="asymmetric",
        ),
        pytest.param(
            {"padding": [[1, 0], [2, 3]], "padding_mode": "reflect", "bias": False},
            "Conv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), padding=((1, 0), (2, 3)), bias=False, "
            "padding_mode=reflect)",
            id="asymmetric_lists",
        ),
        pytest.param(
            {"padding": "same", "stride": 2},
            "Conv2d(4, 6, kernel_size=(3, 3), stride=(2, 2), padding=same)",
            id="same_strided",
        ),
    ],
)
def test_repr_of_padding_beyond_torchs(arguments: dict[str, Any], text: str) -> None:
    assert repr(built(convgrad_ext.Conv2d, **arguments)) == text


@pytest.mark.parametrize("padding", [((1, 0), (2, 3)), "same"], ids=["asymmetric", "same_strided"])
def test_padding_beyond_torchs_draws_torchs_initial_values(padding: Any) -> None:
    layer = built(convgrad_ext.Conv2d, padding=padding, stride=2)
    theirs = built(nn.Conv2d, stride=2)
    assert torch.equal(layer.weight, theirs.weight)
    assert torch.equal(layer.bias, theirs.bias)


# A layer that is changed after it was made, as libraries for seamless tiling do


def sides_of(layer: nn.Conv2d) -> list[int]:
    """The argument for torch.nn.functional.pad: (left, right, top, bottom)."""
    return list(layer._reversed_padding_repeated_twice)


@pytest.mark.parametrize("arguments", CONFIGURATIONS)
def test_sides_are_torchs(arguments: dict[str, Any]) -> None:
    theirs, ours = pair(**arguments)
    assert sides_of(ours) == sides_of(theirs)


@pytest.mark.parametrize("mode", MODES)
def test_sides_of_asymmetric_padding(mode: str) -> None:
    layer = built(convgrad_ext.Conv2d, padding=((1, 0), (2, 3)), padding_mode=mode)
    assert sides_of(layer) == [2, 3, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "sides"),
    [
        # as if the extents were 6 and 6: ceil(6/s) outputs, the last of which ends at the padding
        pytest.param({"stride": 2}, [0, 1, 0, 1], id="odd_kernel"),
        pytest.param({"stride": (2,)}, [0, 1, 0, 1], id="stride_tuple_of_one"),
        pytest.param({"stride": 2, "kernel_size": (4, 2)}, [0, 0, 1, 1], id="even_kernel"),
        pytest.param({"stride": (1, 3)}, [0, 0, 1, 1], id="one_axis"),
        pytest.param({"stride": (3, 1), "dilation": 2}, [2, 2, 1, 1], id="dilated"),
        pytest.param({"stride": 3, "kernel_size": 1}, [0, 0, 0, 0], id="stride_exceeds_kernel"),
    ],
)
def test_sides_of_strided_same(arguments: dict[str, Any], sides: list[int]) -> None:
    """Those of images whose extents are multiples of the stride; other images have other sides."""
    layer = built(convgrad_ext.Conv2d, padding="same", padding_mode="reflect", **arguments)
    assert sides_of(layer) == sides
    assert_same_run(layer, padded_first(layer, tuple(sides), "reflect"), images(2, 4, 6, 6))


CHANGES = [
    pytest.param({}, {"padding_mode": "circular"}, id="mode"),
    pytest.param({"stride": 2}, {"padding_mode": "reflect"}, id="mode_strided"),
    pytest.param({"padding_mode": "circular"}, {"padding_mode": "zeros"}, id="mode_back"),
    pytest.param({}, {"padding_mode": "constant"}, id="mode_of_pad"),
    pytest.param(
        {"padding_mode": "circular"}, {"sides": (1, 1, 0, 0)}, id="columns_alone_are_padded"
    ),
    pytest.param({"padding_mode": "circular"}, {"sides": [0, 0, 1, 1]}, id="rows_alone_are_padded"),
    pytest.param({"padding_mode": "circular"}, {"sides": (0,) * 4}, id="nothing_is_padded"),
    pytest.param(
        {"padding_mode": "reflect", "stride": 2}, {"sides": (2, 0, 0, 3)}, id="each_side_apart"
    ),
    pytest.param({}, {"sides": (2, 2, 2, 2)}, id="sides_without_a_mode_count_for_nothing"),
    pytest.param(
        {}, {"padding_mode": "circular", "sides": (1, 1, 0, 0)}, id="mode_and_columns_alone"
    ),
    pytest.param({"padding": "same"}, {"padding_mode": "circular"}, id="mode_of_same"),
    pytest.param(
        {"padding": "same", "padding_mode": "circular"}, {"sides": [1, 1, 0, 0]}, id="half_of_same"
    ),
    pytest.param({}, {"padding": 2}, id="padding_int"),
    pytest.param({}, {"padding": (0, 2)}, id="padding_pair"),
    pytest.param({}, {"padding": "same"}, id="padding_same"),
    pytest.param({"stride": 2}, {"padding": "valid"}, id="padding_valid"),
    pytest.param({"padding_mode": "circular"}, {"padding": 2}, id="padding_beside_a_mode"),
    pytest.param({"padding_mode": "reflect"}, {"padding": "valid"}, id="valid_beside_a_mode"),
    pytest.param({}, {"stride": (2, 2)}, id="stride"),
    pytest.param({"padding_mode": "circular"}, {"dilation": (2, 2)}, id="dilation"),
]


@pytest.mark.parametrize("made", ["built", "converted"])
@pytest.mark.parametrize(("arguments", "change"), CHANGES)
def test_changes_are_obeyed_as_torchs_obeys_them(
    arguments: dict[str, Any], change: dict[str, Any], made: str
) -> None:
    theirs, ours = pair(**{"padding": 1, **arguments})
    if made == "converted":
        ours = convgrad_ext.convert(copy.deepcopy(theirs))
    for layer in (theirs, ours):
        for name, value in change.items():
            setattr(layer, "_reversed_padding_repeated_twice" if name == "sides" else name, value)
    assert_same_run(ours, theirs)


def test_a_side_is_changed_in_its_list() -> None:
    theirs, ours = pair(padding="same", padding_mode="circular")
    for layer in (theirs, ours):
        layer._reversed_padding_repeated_twice[0] = 0
    assert sides_of(ours) == [0, 1, 1, 1]
    assert_same_run(ours, theirs)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_asymmetric_padding_is_given_a_mode(mode: str) -> None:
    layer = built(convgrad_ext.Conv2d, padding=((1, 0), (2, 3)))
    layer.padding_mode = mode
    assert_same_run(layer, padded_first(layer, (2, 3, 1, 0), mode))


@pytest.mark.parametrize("arguments", [{"padding": ((1, 0), (2, 3))}, {"padding": "same"}], ids=str)
def test_sides_beyond_torchs_are_changed(arguments: dict[str, Any]) -> None:
    """Strided 'same' too: from then on, all images are padded alike."""
    layer = built(convgrad_ext.Conv2d, stride=2, padding_mode="circular", **arguments)
    layer._reversed_padding_repeated_twice = (2, 1, 0, 0)
    assert_same_run(layer, padded_first(layer, (2, 1, 0, 0), "circular"))
    layer._reversed_padding_repeated_twice = [0, 0, 1, 2]
    assert_same_run(layer, padded_first(layer, (0, 0, 1, 2), "circular"))


def test_a_side_of_strided_same_is_changed_in_its_list() -> None:
    layer = built(convgrad_ext.Conv2d, padding="same", stride=2, padding_mode="circular")
    layer._reversed_padding_repeated_twice[0] = 2
    assert_same_run(layer, padded_first(layer, (2, 1, 0, 1), "circular"))


def test_strided_same_is_given_a_mode() -> None:
    """9 rows and 8 columns have other sides than those that were filled in."""
    layer = built(convgrad_ext.Conv2d, padding="same", stride=2)
    layer.padding_mode = "circular"
    assert_same_run(layer, padded_first(layer, (0, 1, 1, 1), "circular"))
