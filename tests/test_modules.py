"""Conv2d and LazyConv2d stand in for torch.nn's: nothing but the loops is different."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from refusals import error_of
from tolerance import assert_sums_equal
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

import convgrad_ext

IMAGES = (2, 4, 9, 8)

CONFIGURATIONS = [
    pytest.param({}, id="plain"),
    pytest.param({"kernel_size": (3, 2)}, id="kernel_differs_by_axis"),
    pytest.param({"kernel_size": [2, 3], "stride": [2, 1]}, id="lists"),
    pytest.param({"kernel_size": 1}, id="pointwise"),
    pytest.param({"stride": 2, "padding": 1}, id="strided"),
    pytest.param({"stride": (2, 3), "padding": (1, 0)}, id="parameters_differ_by_axis"),
    pytest.param({"padding": (1,), "stride": (2,), "dilation": (2,)}, id="tuples_of_one"),
    pytest.param({"dilation": 2, "padding": 2}, id="dilated"),
    pytest.param({"groups": 2}, id="grouped"),
    pytest.param({"groups": 4, "out_channels": 8}, id="depthwise_with_multiplier"),
    pytest.param({"bias": False}, id="no_bias"),
    pytest.param({"padding": "same"}, id="same"),
    pytest.param({"padding": "same", "dilation": (2, 1)}, id="same_dilated"),
    pytest.param({"padding": "same", "stride": [1, 1]}, id="same_with_stride_of_ones"),
    pytest.param({"padding": "valid", "stride": 2}, id="valid"),
    pytest.param({"padding": 2, "padding_mode": "reflect"}, id="reflect"),
    pytest.param({"padding": (1, 2), "padding_mode": "replicate", "stride": 2}, id="replicate"),
    pytest.param({"padding": (2, 1), "padding_mode": "circular", "groups": 2}, id="circular"),
    pytest.param(
        {"padding": [1, 2], "padding_mode": "circular", "bias": False}, id="circular_list"
    ),
    pytest.param({"padding": "same", "padding_mode": "reflect"}, id="reflect_same"),
    pytest.param(
        {"padding": "same", "padding_mode": "replicate", "kernel_size": (2, 4)},
        id="replicate_same_even_kernel",
    ),
    pytest.param(
        {"padding": "same", "padding_mode": "circular", "dilation": 2}, id="circular_same_dilated"
    ),
    pytest.param({"padding": "valid", "padding_mode": "reflect"}, id="reflect_valid"),
    pytest.param({"padding": 0, "padding_mode": "circular"}, id="circular_without_padding"),
]


def built(layer: type[nn.Module], **arguments: Any) -> Any:
    """A layer with the initial values of seed 0, in double precision."""
    torch.manual_seed(0)
    sizes = {"in_channels": 4, "out_channels": 6, "kernel_size": 3}
    return layer(**{**sizes, "dtype": torch.float64, **arguments})


def pair(**arguments: Any) -> tuple[nn.Conv2d, convgrad_ext.Conv2d]:
    return built(nn.Conv2d, **arguments), built(convgrad_ext.Conv2d, **arguments)


def images(*size: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size or IMAGES, dtype=torch.float64, generator=generator)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Equal up to the rounding of sums of a few hundred products."""
    assert_sums_equal(actual, expected, torch.full_like(expected, 1000), reduction=500)


def run(layer: nn.Module, input: Tensor) -> list[Tensor]:
    """The output and the gradients of input and parameters."""
    input = input.detach().requires_grad_()
    output = layer(input)
    generator = torch.Generator().manual_seed(2)
    cotangent = torch.randn(output.shape, dtype=output.dtype, generator=generator)
    leaves = [input, *layer.parameters()]
    return [output, *torch.autograd.grad(output, leaves, cotangent)]


def assert_same_run(ours: nn.Module, theirs: nn.Module, input: Tensor | None = None) -> None:
    input = images() if input is None else input
    for actual, expected in zip(run(ours, input), run(theirs, input), strict=True):
        assert_close(actual, expected)


# The stand-in


@pytest.mark.parametrize("arguments", CONFIGURATIONS)
def test_same_initial_values_from_the_same_seed(arguments: dict[str, Any]) -> None:
    theirs, ours = (layer.state_dict() for layer in pair(**arguments))
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("arguments", CONFIGURATIONS)
def test_building_a_layer_takes_the_same_random_numbers(arguments: dict[str, Any]) -> None:
    """So the layers that follow in a model start from PyTorch's values too."""
    built(nn.Conv2d, **arguments)
    expected = torch.rand(3)
    built(convgrad_ext.Conv2d, **arguments)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("arguments", CONFIGURATIONS)
def test_same_repr(arguments: dict[str, Any]) -> None:
    theirs, ours = pair(**arguments)
    assert repr(ours) == repr(theirs)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("arguments", CONFIGURATIONS)
def test_same_output_and_gradients(arguments: dict[str, Any]) -> None:
    theirs, ours = pair(**arguments)
    assert_same_run(ours, theirs)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_same_output_and_gradients_of_one_image(mode: str) -> None:
    theirs, ours = pair(padding=(2, 1), padding_mode=mode)
    assert_same_run(ours, theirs, images(4, 9, 8))


@pytest.mark.parametrize("arguments", CONFIGURATIONS)
def test_same_attributes(arguments: dict[str, Any]) -> None:
    """Whoever reads a layer's stride or padding reads PyTorch's."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    theirs, ours = pair(**arguments)
    for name in (*names, "groups", "padding_mode", "transposed", "output_padding"):
        assert getattr(ours, name) == getattr(theirs, name)


def test_same_signature() -> None:
    """Names, order and defaults, so that arguments by position mean the same."""
    ours, theirs = (
        {name: p.default for name, p in inspect.signature(layer.__init__).parameters.items()}
        for layer in (convgrad_ext.Conv2d, nn.Conv2d)
    )
    assert list(ours.items()) == list(theirs.items())


def test_arguments_by_position() -> None:
    arguments = (4, 6, (3, 2), 2, (1, 0), 2, 2, False, "circular", "cpu", torch.float64)
    torch.manual_seed(0)
    theirs = nn.Conv2d(*arguments)
    torch.manual_seed(0)
    assert_same_run(convgrad_ext.Conv2d(*arguments), theirs)


def test_is_a_torch_layer() -> None:
    """Code that looks for convolutions, to initialise or to count them, finds it."""
    assert isinstance(built(convgrad_ext.Conv2d), nn.Conv2d)


def test_runs_on_our_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the comparisons above would miss: that PyTorch's convolution ran in both."""

    def refused(*args: Any) -> Tensor:
        raise AssertionError("torch.nn.functional.conv2d ran")

    theirs, ours = pair()
    monkeypatch.setattr(F, "conv2d", refused)
    ours(images())
    with pytest.raises(AssertionError, match="ran"):
        theirs(images())


# State


@pytest.mark.parametrize("arguments", CONFIGURATIONS)
def test_state_goes_both_ways(arguments: dict[str, Any]) -> None:
    theirs, ours = pair(**arguments)
    for source, target in ((theirs, ours), (ours, theirs)):
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.uniform_()
        assert str(target.load_state_dict(source.state_dict(), strict=True)) == (
            "<All keys matched successfully>"
        )
        for name, value in source.state_dict().items():
            assert torch.equal(target.state_dict()[name], value)


def test_state_of_another_shape_is_refused_as_torchs() -> None:
    state = built(nn.Conv2d, kernel_size=5).state_dict()
    theirs, ours = (error_of(layer.load_state_dict, state) for layer in pair())
    assert "size mismatch for weight" in theirs[1]
    assert ours == theirs


def test_state_through_a_file_of_weights_alone() -> None:
    ours = built(convgrad_ext.Conv2d)
    file = io.BytesIO()
    torch.save(ours.state_dict(), file)
    file.seek(0)
    theirs = nn.Conv2d(4, 6, 3, dtype=torch.float64)
    theirs.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert_same_run(ours, theirs)


def through_pickle(layer: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(layer))


def through_a_file(layer: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle, through_a_file])
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"stride": 2, "padding": 1}, id="strided"),
        pytest.param({"padding": ((1, 0), (2, 3))}, id="asymmetric"),
        pytest.param(
            {"padding": "same", "padding_mode": "reflect", "stride": 2}, id="reflect_same"
        ),
    ],
)
def test_copies_are_equal_and_apart(copied: Any, arguments: dict[str, Any]) -> None:
    layer = built(convgrad_ext.Conv2d, **arguments)
    expected = run(layer, images())
    other = copied(layer)
    assert type(other) is convgrad_ext.Conv2d
    assert repr(other) == repr(layer)
    with torch.no_grad():
        layer.weight.zero_()
    for actual, value in zip(run(other, images()), expected, strict=True):
        assert torch.equal(actual, value)


# Devices and dtypes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_dtype_of_the_parameters(dtype: torch.dtype) -> None:
    theirs, ours = pair(dtype=dtype)
    assert (ours.weight.dtype, ours.bias.dtype) == (dtype, dtype)
    assert torch.equal(ours.weight, theirs.weight)
    assert ours(images().to(dtype)).dtype == dtype


def test_layer_without_data() -> None:
    layer = built(convgrad_ext.Conv2d, device="meta")
    assert layer.weight.is_meta
    output = layer(torch.empty(IMAGES, dtype=torch.float64, device="meta"))
    assert (output.is_meta, output.shape) == (True, (2, 6, 7, 6))


def test_layer_without_data_is_given_some() -> None:
    layer = built(convgrad_ext.Conv2d, device="meta").to_empty(device="cpu")
    theirs = built(nn.Conv2d)
    layer.load_state_dict(theirs.state_dict())
    assert_same_run(layer, theirs)


def test_layers_change_their_dtype_and_format() -> None:
    layer = built(convgrad_ext.Conv2d).float()
    assert layer(images().float()).dtype == torch.float32
    layer = layer.to(memory_format=torch.channels_last)
    assert layer(images().float()).is_contiguous(memory_format=torch.channels_last)


# Errors


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"groups": 3}, id="groups_do_not_divide_inputs"),
        pytest.param({"groups": 4}, id="groups_do_not_divide_outputs"),
        pytest.param({"groups": 0}, id="no_groups"),
        pytest.param({"groups": -1}, id="negative_groups"),
        pytest.param({"padding": "full"}, id="unknown_padding"),
        pytest.param({"padding_mode": "mirror"}, id="unknown_padding_mode"),
        pytest.param({"padding": "full", "padding_mode": "mirror"}, id="both_unknown"),
        pytest.param({"in_channels": -1}, id="negative_channels"),
        pytest.param({"groups": 1.0}, id="groups_float"),
        pytest.param({"shape": 3}, id="unknown_argument"),
    ],
)
def test_constructors_refuse_as_torchs(arguments: dict[str, Any]) -> None:
    theirs = error_of(built, nn.Conv2d, **arguments)
    assert error_of(built, convgrad_ext.Conv2d, **arguments) == theirs


@pytest.mark.parametrize(
    "wrong", [{"padding_mode": "mirror"}, {"groups": 3}, {"groups": 0}], ids=str
)
def test_padding_beyond_torchs_does_not_hide_another_error(wrong: dict[str, Any]) -> None:
    theirs = error_of(built, nn.Conv2d, **wrong)
    assert error_of(built, convgrad_ext.Conv2d, padding=((1, 0), (0, 2)), **wrong) == theirs
    assert error_of(built, convgrad_ext.Conv2d, padding="same", stride=2, **wrong) == theirs


@pytest.mark.parametrize("padding", [((1, 2), (0.5, 1)), [[1, True], [0, 0]], ((None, 1), (1, 1))])
def test_padding_of_other_than_ints(padding: Any) -> None:
    with pytest.raises(TypeError) as refused:
        built(convgrad_ext.Conv2d, padding=padding)
    assert str(refused.value) == (
        "convgrad_ext: padding must be an int, (vertical, horizontal), ((top, bottom), (left, "
        f"right)), 'same' or 'valid', but got {padding!r}"
    )


# Padding beyond torch's

MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "replicate",
    "circular": "circular",
}


def padded_first(layer: nn.Conv2d, sides: tuple[int, int, int, int], mode: str) -> nn.Module:
    """PyTorch's layer with the same parameters on an image padded by (left, right, top, bottom)."""

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = layer

        def forward(self, input: Tensor) -> Tensor:
            conv = self.conv
            image = F.pad(input, sides, mode=MODES[mode])
            return F.conv2d(image, conv.weight, conv.bias, conv.stride, 0, conv.dilation)

    return Padded()


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


# A layer that is changed while it lives, as libraries for seamless tiling do


def sides_of(layer: nn.Conv2d) -> list[int]:
    """What torch.nn.functional.pad is to be given: (left, right, top, bottom)."""
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
    """Those of images whose extents are multiples of the stride; others have sides of their own."""
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


# LazyConv2d


def lazy(layer: type[nn.Module] = convgrad_ext.LazyConv2d, **arguments: Any) -> Any:
    return layer(6, kernel_size=3, dtype=torch.float64, **arguments)


def test_lazy_layer_has_no_values_before_its_first_input() -> None:
    layer = lazy()
    assert layer.has_uninitialized_params()
    assert isinstance(layer.weight, UninitializedParameter)
    assert isinstance(layer.bias, UninitializedParameter)
    assert layer.in_channels == 0


def test_lazy_layer_becomes_ours() -> None:
    layer = lazy(stride=2, padding=1, groups=2)
    weight = layer.weight
    layer(images())
    assert type(layer) is convgrad_ext.Conv2d
    assert (layer.in_channels, layer.weight.shape) == (4, (6, 2, 3, 3))
    assert layer.weight is weight
    assert not layer._forward_pre_hooks


@pytest.mark.parametrize("size", [IMAGES, IMAGES[1:]], ids=["batch", "one_image"])
def test_lazy_layer_draws_torchs_initial_values(size: tuple[int, ...]) -> None:
    layers = []
    for kind in (convgrad_ext.LazyConv2d, nn.LazyConv2d):
        torch.manual_seed(0)
        layer = lazy(kind, padding=1)
        layer(images(*size))
        layers.append(layer)
    ours, theirs = layers
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)
    assert_same_run(ours, theirs)


def test_lazy_layer_takes_its_shape_from_a_state() -> None:
    source, ours, theirs = built(nn.Conv2d), lazy(), lazy(nn.LazyConv2d)
    ours.load_state_dict(source.state_dict())
    theirs.load_state_dict(source.state_dict())
    assert not ours.has_uninitialized_params()
    assert_same_run(ours, theirs)
    assert type(ours) is convgrad_ext.Conv2d


def converted_lazy(**arguments: Any) -> nn.Module:
    return convgrad_ext.convert(lazy(nn.LazyConv2d, **arguments))


def in_a_model(**arguments: Any) -> nn.Module:
    return nn.Sequential(lazy(**arguments))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("assign", [False, True], ids=["copied", "assigned"])
@pytest.mark.parametrize("made", [lazy, converted_lazy, in_a_model])
def test_lazy_layer_knows_its_channels_from_a_state(made: Any, assign: bool, groups: int) -> None:
    """At once, and after its first call; torch's says 0 ever after."""
    source, made_layer = built(nn.Conv2d, groups=groups), made(groups=groups)
    layer = next(m for m in made_layer.modules() if isinstance(m, nn.Conv2d))
    prefix = "0." if layer is not made_layer else ""
    state = {prefix + name: value for name, value in source.state_dict().items()}
    made_layer.load_state_dict(state, assign=assign)
    assert layer.in_channels == 4
    layer(images())
    assert repr(layer) == repr(source)


def test_lazy_layer_knows_no_channels_from_a_lazy_state() -> None:
    layer = lazy()
    layer.load_state_dict(lazy().state_dict())
    assert (layer.in_channels, layer.has_uninitialized_params()) == (0, True)
    layer(images())
    assert layer.in_channels == 4


def test_lazy_state_goes_to_a_lazy_layer() -> None:
    theirs = lazy(nn.LazyConv2d)
    theirs.load_state_dict(lazy().state_dict())
    assert theirs.has_uninitialized_params()


@pytest.mark.parametrize("arguments", [{}, {"stride": 2, "padding": 1, "bias": False}], ids=str)
def test_lazy_layer_has_torchs_repr(arguments: dict[str, Any]) -> None:
    ours, theirs = lazy(**arguments), lazy(nn.LazyConv2d, **arguments)
    assert repr(ours) == repr(theirs)
    ours(images())
    theirs(images())
    assert repr(ours) == repr(theirs)


def test_lazy_layer_is_a_torch_layer() -> None:
    assert isinstance(lazy(), nn.LazyConv2d)
    assert isinstance(lazy(), convgrad_ext.Conv2d)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"padding": ((1, 0), (2, 3))}, id="asymmetric"),
        pytest.param({"padding": "same", "stride": 2}, id="same_strided"),
        pytest.param({"padding": ((1, 0), (2, 3)), "padding_mode": "circular"}, id="circular"),
    ],
)
def test_lazy_layer_takes_padding_beyond_torchs(arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = lazy(**arguments)
    layer(images())
    expected = built(convgrad_ext.Conv2d, **arguments)
    expected.load_state_dict(layer.state_dict())
    assert repr(layer) == repr(expected)
    assert_same_run(layer, expected)


@pytest.mark.parametrize("size", [(9, 8), (1, 2, 4, 9, 8)], ids=["rank_2", "rank_5"])
def test_lazy_layer_refuses_as_torchs(size: tuple[int, ...]) -> None:
    theirs = error_of(lazy(nn.LazyConv2d), images(*size))
    assert error_of(lazy(), images(*size)) == theirs


# Training


def network(layer: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        layer(1, 4, 3, padding=1),
        nn.Tanh(),
        layer(4, 4, 3, stride=2, groups=2, padding=1, padding_mode="circular"),
        nn.Tanh(),
        layer(4, 2, 3, bias=False),
        nn.Flatten(),
    ).double()


def losses_of_training(model: nn.Module, steps: int) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    input, target = images(8, 1, 9, 8), images(8, 12, seed=3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.mse_loss(model(input), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_is_torchs() -> None:
    """Each step's rounding enters the next; 1e-10 leaves that a few digits."""
    ours, theirs = network(convgrad_ext.Conv2d), network(nn.Conv2d)
    losses = losses_of_training(ours, steps=8)
    assert losses == pytest.approx(losses_of_training(theirs, steps=8), rel=1e-10)
    assert losses[-1] < losses[0]
    for actual, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
