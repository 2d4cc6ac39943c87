"""Conv2d takes the place of torch.nn's: only the loops are different."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conv_layers import (
    CONFIGURATIONS,
    IMAGES,
    assert_same_run,
    built,
    images,
    pair,
    run,
)
from refusals import error_of
from torch import Tensor, nn

import convgrad_ext

# In the place of torch.nn's


@pytest.mark.parametrize("arguments", CONFIGURATIONS)
def test_same_initial_values_from_the_same_seed(arguments: dict[str, Any]) -> None:
    theirs, ours = (layer.state_dict() for layer in pair(**arguments))
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("arguments", CONFIGURATIONS)
def test_building_a_layer_takes_the_same_random_numbers(arguments: dict[str, Any]) -> None:
    """So the next layers of a model start from PyTorch's values too."""
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
    """A layer's stride and padding have the values that PyTorch's have."""
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
    """The comparisons above would also pass if PyTorch's convolution ran in both."""

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
    """The rounding of each step adds to the next; 1e-10 allows a few digits for it."""
    ours, theirs = network(convgrad_ext.Conv2d), network(nn.Conv2d)
    losses = losses_of_training(ours, steps=8)
    assert losses == pytest.approx(losses_of_training(theirs, steps=8), rel=1e-10)
    assert losses[-1] < losses[0]
    for actual, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
