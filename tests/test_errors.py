"""Every error: of PyTorch's type and with PyTorch's message for the same call, where it has one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from refusals import error_of
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import convgrad_ext
from convgrad_ext import _C

INPUT, WEIGHT, OUTPUT = (2, 4, 5, 5), (6, 4, 3, 3), (2, 6, 3, 3)
RAW = torch.ops.convgrad_ext


@dataclass(frozen=True)
class BadCall:
    """A call of conv2d that PyTorch refuses, with sizes in the place of tensors."""

    name: str
    reason: str
    input: tuple[int, ...] = INPUT
    weight: tuple[int, ...] = WEIGHT
    bias: tuple[int, ...] | None = None
    bias_dtype: torch.dtype = torch.float32
    params: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> list[Tensor | None]:
        bias = None if self.bias is None else torch.ones(self.bias, dtype=self.bias_dtype)
        return [torch.ones(self.input), torch.ones(self.weight), bias]

    def __str__(self) -> str:
        return self.name


def bad(name: str, reason: str, **arguments: Any) -> BadCall:
    """Tensors' sizes by name; every other argument goes to conv2d."""
    own = {k: arguments.pop(k) for k in ("input", "weight", "bias", "bias_dtype") if k in arguments}
    return BadCall(name, reason, **own, params=arguments)


BAD_CALLS = [
    bad("channels_differ", "weight and input disagree", weight=(6, 3, 3, 3)),
    bad(
        "channels_differ_grouped", "the groups multiply the weight's", weight=(6, 3, 3, 3), groups=2
    ),
    bad("channels_differ_unbatched", "one image", input=(4, 5, 5), weight=(6, 3, 3, 3)),
    bad("no_channels_in_input", "zero is not four", input=(2, 0, 5, 5)),
    bad("kernel_exceeds_input", "no output would be left", weight=(6, 4, 7, 3)),
    bad("kernel_exceeds_one_axis", "the width alone", weight=(6, 4, 3, 6)),
    bad("kernel_exceeds_padded_input", "padding does not help", weight=(6, 4, 9, 3), padding=1),
    bad("kernel_exceeds_input_dilated", "the span counts, 7, not the 3 taps", dilation=3),
    bad("kernel_exceeds_input_unbatched", "one image", input=(4, 5, 5), weight=(6, 4, 7, 3)),
    bad("stride_zero", "outputs on top of one another", stride=0),
    bad("stride_negative", "outputs run backwards", stride=-1),
    bad("stride_zero_on_one_axis", "either axis counts", stride=(1, 0)),
    bad("stride_zero_on_the_other_axis", "either axis counts", stride=(0, 1)),
    bad("dilation_zero", "taps on top of one another", dilation=0),
    bad("dilation_negative", "a sentence of its own in PyTorch", dilation=-1),
    bad("dilation_zero_on_one_axis", "either axis counts", dilation=(1, 0)),
    bad("dilation_negative_on_one_axis", "either axis counts", dilation=(-1, 1)),
    bad("padding_negative", "would crop", padding=-1),
    bad("padding_negative_on_one_axis", "either axis counts", padding=(0, -1)),
    bad("groups_do_not_divide_outputs", "6 = 4 * 1 + 2", weight=(6, 1, 3, 3), groups=4),
    bad(
        "groups_do_not_divide_inputs",
        "5 = 2 * 2 + 1",
        input=(2, 5, 5, 5),
        weight=(6, 2, 3, 3),
        groups=2,
    ),
    bad("groups_exceed_outputs", "some group would be empty", weight=(6, 1, 3, 3), groups=7),
    bad("groups_zero", "nothing to divide into", groups=0),
    bad("groups_negative", "nothing to divide into", groups=-1),
    bad("no_outputs", "a weight without filters", weight=(0, 4, 3, 3)),
    bad("input_of_rank_0", "a number is no image", input=()),
    bad("input_of_rank_2", "channels must be named", input=(5, 5)),
    bad("input_of_rank_5", "a video is no image", input=(1, 2, 4, 5, 5)),
    bad("weight_of_rank_0", "a number is no filter", weight=()),
    bad("weight_of_rank_1", "a vector is no filter", weight=(3,)),
    bad("weight_of_rank_2", "a matrix is no filter", weight=(3, 3)),
    bad("weight_of_rank_3", "a filter of conv1d", weight=(6, 4, 3)),
    bad("weight_of_rank_5", "a filter of conv3d", weight=(6, 4, 3, 3, 3)),
    bad("weight_of_rank_3_unbatched", "both of rank 3", input=(4, 5, 5), weight=(6, 4, 3)),
    bad(
        "input_of_rank_0_same",
        "padding asks for an extent that is not there",
        input=(),
        padding="same",
    ),
    bad(
        "input_of_rank_1_same",
        "padding asks for an extent that is not there",
        input=(5,),
        padding="same",
    ),
    bad("input_of_rank_2_same", "the padding is no matter", input=(5, 5), padding="same"),
    bad("weight_of_rank_3_same", "PyTorch names the ranks here", weight=(6, 4, 3), padding="same"),
    bad(
        "weight_of_rank_5_same",
        "PyTorch names the ranks here",
        weight=(6, 4, 3, 3, 3),
        padding="same",
    ),
    bad("bias_too_short", "one output has none", bias=(5,)),
    bad("bias_too_long", "one number has no output", bias=(7,)),
    bad("bias_of_one", "is not broadcast", bias=(1,)),
    bad("bias_of_rank_0", "a number is not broadcast", bias=()),
    bad("bias_of_rank_2", "a column is no vector", bias=(6, 1)),
    bad("bias_double", "a dtype of its own", bias=(6,), bias_dtype=torch.float64),
    bad("bias_half", "a dtype of its own", bias=(6,), bias_dtype=torch.float16),
    bad("bias_of_integers", "a dtype of its own", bias=(6,), bias_dtype=torch.int64),
    bad(
        "bias_double_and_short",
        "of two faults, the dtype is told",
        bias=(5,),
        bias_dtype=torch.float64,
    ),
    bad("stride_of_three", "two axes", stride=(1, 1, 1)),
    bad("stride_of_none", "two axes", stride=()),
    bad("padding_of_three", "two axes", padding=[1, 1, 1]),
    bad("padding_of_four", "is not (top, bottom, left, right)", padding=[1, 1, 1, 1]),
    bad("padding_of_none", "two axes", padding=()),
    bad("dilation_of_three", "two axes", dilation=(1, 1, 1)),
    bad("dilation_of_none", "two axes", dilation=[]),
    bad("padding_unknown", "a name that scipy would know", padding="full"),
    bad("padding_in_capitals", "names are exact", padding="SAME"),
    bad("padding_without_name", "names are not empty", padding=""),
    bad("same_dilation_zero", "'same' divides by nothing of it", padding="same", dilation=0),
    bad(
        "height_zero",
        "padding alone is no image",
        input=(2, 4, 0, 5),
        weight=(6, 4, 1, 1),
        padding=1,
    ),
    bad(
        "width_zero_unbatched",
        "padding alone is no image",
        input=(4, 5, 0),
        weight=(6, 4, 1, 1),
        padding=1,
    ),
    bad("height_zero_under_kernel", "the kernel is told first", input=(2, 4, 0, 5)),
    bad(
        "channels_zero_and_bias_short",
        "bias fits no channels",
        input=(2, 0, 5, 5),
        weight=(6, 0, 3, 3),
        bias=(5,),
    ),
]


@pytest.mark.parametrize("wanted", [False, True], ids=["", "requires_grad"])
@pytest.mark.parametrize("call", BAD_CALLS, ids=str)
def test_type_and_message_as_torchs(call: BadCall, wanted: bool) -> None:
    tensors = call.tensors()
    for tensor in tensors[:2]:
        tensor.requires_grad_(wanted)
    theirs = error_of(F.conv2d, *tensors, **call.params)
    assert error_of(convgrad_ext.conv2d, *tensors, **call.params) == theirs


@pytest.mark.parametrize("call", [c for c in BAD_CALLS if c.bias is None], ids=str)
def test_gradients_refuse_what_the_convolution_refuses(call: BadCall) -> None:
    """conv2d_input and conv2d_weight check sizes and parameters first, with the same messages."""
    input, weight, _ = call.tensors()
    grad_output = torch.ones(OUTPUT[-3:] if input.dim() == 3 else OUTPUT)
    theirs = error_of(F.conv2d, input, weight, **call.params)
    assert (
        error_of(convgrad_ext.conv2d_input, input.shape, weight, grad_output, **call.params)
        == theirs
    )
    assert (
        error_of(convgrad_ext.conv2d_weight, input, weight.shape, grad_output, **call.params)
        == theirs
    )


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param(((2, 3, 5, 5), {}), id="channels_differ"),
        pytest.param(((2, 4, 2, 5), {}), id="kernel_exceeds_input"),
        pytest.param(((4, 5), {}), id="input_of_rank_2"),
        pytest.param(
            ((2, 4, 5, 5), {"padding_mode": "reflect", "padding": 5}), id="reflection_exceeds_input"
        ),
    ],
)
def test_modules_refuse_as_torchs(sizes: tuple) -> None:
    input_size, options = sizes
    theirs = error_of(torch.nn.Conv2d(4, 6, 3, **options), torch.ones(input_size))
    assert error_of(convgrad_ext.Conv2d(4, 6, 3, **options), torch.ones(input_size)) == theirs


# Dtypes and devices

TYPE_NAMES = {
    torch.float16: "torch.HalfTensor",
    torch.bfloat16: "CPUBFloat16Type",
    torch.float32: "torch.FloatTensor",
    torch.float64: "torch.DoubleTensor",
    torch.complex64: "CPUComplexFloatType",
    torch.uint8: "torch.ByteTensor",
    torch.int64: "torch.LongTensor",
}
MIXED = [
    pytest.param(a, b, id=f"{a}-{b}".replace("torch.", ""))
    for a in TYPE_NAMES
    for b in TYPE_NAMES
    if a != b
]


@pytest.mark.parametrize(("first", "second"), MIXED)
def test_mixed_dtypes_name_both_types(first: torch.dtype, second: torch.dtype) -> None:
    """PyTorch's sentence; it says more of MKLDNN, or another sentence, from backend to backend."""
    input, weight = torch.ones(INPUT, dtype=first), torch.ones(WEIGHT, dtype=second)
    kind, message = error_of(convgrad_ext.conv2d, input, weight)
    assert kind is RuntimeError
    names = TYPE_NAMES[first], TYPE_NAMES[second]
    assert message == "Input type ({}) and weight type ({}) should be the same".format(*names)
    kind, theirs = error_of(F.conv2d, input, weight)
    assert kind is RuntimeError
    assert theirs.startswith((message, "expected scalar type"))


def test_mixed_dtypes_of_the_gradients() -> None:
    input, weight, grad_output = torch.ones(INPUT), torch.ones(WEIGHT), torch.ones(OUTPUT).double()
    told = (
        "grad_output type (torch.DoubleTensor) and {} type (torch.FloatTensor) should be the same"
    )
    ours = error_of(convgrad_ext.conv2d_input, INPUT, weight, grad_output)
    assert ours == (RuntimeError, told.format("weight"))
    ours = error_of(convgrad_ext.conv2d_weight, input, WEIGHT, grad_output)
    assert ours == (RuntimeError, told.format("input"))


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint16, torch.uint32, torch.float8_e4m3fn], ids=str
)
def test_unsupported_dtypes(dtype: torch.dtype) -> None:
    """NotImplementedError as PyTorch's, which names the loop that it did not find."""
    input, weight, grad_output = (torch.ones(s).to(dtype) for s in (INPUT, WEIGHT, OUTPUT))
    assert error_of(F.conv2d, input, weight)[0] is NotImplementedError
    told = r"convgrad_ext: convolution is not implemented for '\w+'"
    with pytest.raises(NotImplementedError, match=told):
        convgrad_ext.conv2d(input, weight)
    with pytest.raises(NotImplementedError, match=told):
        convgrad_ext.conv2d_input(INPUT, weight, grad_output)
    with pytest.raises(NotImplementedError, match=told):
        convgrad_ext.conv2d_weight(input, WEIGHT, grad_output)


DEVICES = [
    pytest.param(("cuda", "cpu", None), id="weight_elsewhere"),
    pytest.param(("cpu", "cuda", None), id="input_elsewhere"),
    pytest.param(("cpu", "cpu", "cuda"), id="bias_elsewhere"),
]


@pytest.mark.parametrize("devices", DEVICES)
def test_mixed_devices_are_both_named(devices: tuple[str, str, str | None]) -> None:
    """Tensors without data claim a GPU. There, PyTorch's own conv2d looks at no device."""
    with FakeTensorMode():
        input, weight, bias = (
            None if device is None else torch.empty(size, device=device)
            for size, device in zip((INPUT, WEIGHT, WEIGHT[:1]), devices, strict=True)
        )
        assert F.conv2d(input, weight, bias).shape == OUTPUT
        with pytest.raises(RuntimeError, match=r"same device.* (cuda:0 and cpu|cpu and cuda:0)"):
            convgrad_ext.conv2d(input, weight, bias)


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        pytest.param(
            ("cpu", "meta", "cpu"),
            "Input type (torch.FloatTensor) and weight type (MetaFloatType) should be the same",
            id="weight_elsewhere",
        ),
        pytest.param(
            ("meta", "cpu", "meta"),
            "Input type (MetaFloatType) and weight type (torch.FloatTensor) should be the same",
            id="input_elsewhere",
        ),
        pytest.param(
            ("cpu", "cpu", "meta"),
            "Input type (torch.FloatTensor) and bias type (MetaFloatType) should be the same",
            id="bias_elsewhere",
        ),
    ],
)
def test_the_meta_device_is_a_device(devices: tuple[str, str, str], message: str) -> None:
    """What PyTorch lets pass as a tensor without data is more likely a layer not yet loaded."""
    input, weight, bias = (
        torch.ones(size, device=device)
        for size, device in zip((INPUT, WEIGHT, WEIGHT[:1]), devices, strict=True)
    )
    assert error_of(convgrad_ext.conv2d, input, weight, bias) == (RuntimeError, message)


# Arguments of the wrong type

INT_OR_PAIR = "an int or a tuple of two ints"
PADDING = "an int, (vertical, horizontal), ((top, bottom), (left, right)), 'same' or 'valid'"

WRONG_TYPES = [
    pytest.param("stride", 1.5, INT_OR_PAIR, id="stride_float"),
    pytest.param("stride", "a", INT_OR_PAIR, id="stride_string"),
    pytest.param("stride", True, INT_OR_PAIR, id="stride_bool"),
    pytest.param("stride", None, INT_OR_PAIR, id="stride_none"),
    pytest.param("stride", (1.5, 1), INT_OR_PAIR, id="stride_tuple_with_float"),
    pytest.param("stride", ((1,), (1,)), INT_OR_PAIR, id="stride_nested"),
    pytest.param("stride", range(1, 3), INT_OR_PAIR, id="stride_range"),
    pytest.param("stride", torch.tensor(1.5), INT_OR_PAIR, id="stride_tensor_of_float"),
    pytest.param("stride", np.float64(2.0), INT_OR_PAIR, id="stride_numpy_float"),
    pytest.param("stride", np.array([2, 1]), INT_OR_PAIR, id="stride_numpy_array"),
    pytest.param("dilation", 2.0, INT_OR_PAIR, id="dilation_float"),
    pytest.param("dilation", (None, 1), INT_OR_PAIR, id="dilation_tuple_with_none"),
    pytest.param("padding", 1.0, PADDING, id="padding_float"),
    pytest.param("padding", True, PADDING, id="padding_bool"),
    pytest.param("padding", None, PADDING, id="padding_none"),
    pytest.param("padding", (1, 1.0), PADDING, id="padding_tuple_with_float"),
    pytest.param("padding", ((1, 2),), PADDING, id="padding_one_pair"),
    pytest.param("padding", ((1, 2), (1,)), PADDING, id="padding_pair_and_single"),
    pytest.param("padding", (1, (1, 1)), PADDING, id="padding_int_and_pair"),
    pytest.param("padding", ((1, 2), (0.5, 1)), PADDING, id="padding_pairs_with_float"),
    pytest.param("padding", ((1, 1), (1, 1), (1, 1)), PADDING, id="padding_three_pairs"),
    pytest.param("groups", 1.0, "an int", id="groups_float"),
    pytest.param("groups", True, "an int", id="groups_bool"),
    pytest.param("groups", None, "an int", id="groups_none"),
    pytest.param("groups", (1,), "an int", id="groups_tuple"),
]


@pytest.mark.parametrize(("name", "value", "expected"), WRONG_TYPES)
def test_wrong_types_name_argument_value_and_what_it_may_be(
    name: str, value: Any, expected: str
) -> None:
    """TypeErrors in PyTorch too, whose argument parser lists its overloads."""
    input, weight, grad_output = (torch.ones(size) for size in (INPUT, WEIGHT, OUTPUT))
    assert error_of(F.conv2d, input, weight, **{name: value})[0] is TypeError
    ours = TypeError, f"convgrad_ext: {name} must be {expected}, but got {value!r}"
    assert error_of(convgrad_ext.conv2d, input, weight, **{name: value}) == ours
    assert error_of(convgrad_ext.conv2d_input, INPUT, weight, grad_output, **{name: value}) == ours
    assert error_of(convgrad_ext.conv2d_weight, input, WEIGHT, grad_output, **{name: value}) == ours


TENSOR = torch.ones(1)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        ("conv2d", (None, TENSOR), "input must be a Tensor, but got NoneType"),
        ("conv2d", ([1.0], TENSOR), "input must be a Tensor, but got list"),
        ("conv2d", (np.ones(INPUT), TENSOR), "input must be a Tensor, but got ndarray"),
        ("conv2d", (TENSOR, None), "weight must be a Tensor, but got NoneType"),
        ("conv2d", (TENSOR, TENSOR, [1.0]), "bias must be a Tensor, but got list"),
        ("conv2d_input", (INPUT, None, TENSOR), "weight must be a Tensor, but got NoneType"),
        ("conv2d_input", (INPUT, TENSOR, 1.0), "grad_output must be a Tensor, but got float"),
        ("conv2d_weight", (None, WEIGHT, TENSOR), "input must be a Tensor, but got NoneType"),
        ("conv2d_weight", (TENSOR, WEIGHT, []), "grad_output must be a Tensor, but got list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_not_a_tensor(function: str, arguments: tuple, message: str) -> None:
    if function == "conv2d":
        assert error_of(F.conv2d, *arguments)[0] is TypeError
    ours = error_of(getattr(convgrad_ext, function), *arguments)
    assert ours == (TypeError, f"convgrad_ext: {message}")


@pytest.mark.parametrize("arguments", [{"pad": 1}, {"kernel_size": 3}, {"strides": 2}], ids=str)
def test_unknown_keywords(arguments: dict[str, int]) -> None:
    input, weight = torch.ones(INPUT), torch.ones(WEIGHT)
    assert error_of(F.conv2d, input, weight, **arguments)[0] is TypeError
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(arguments))}'"):
        convgrad_ext.conv2d(input, weight, **arguments)


# What PyTorch has no call for

SIZE_TOLD = (
    "Given input of size [2, 4, 5, 5] and weight of size [6, 4, 3, 3], expected grad_output to "
    "have the size [2, 6, 3, 3] of the output, but got {} instead"
)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param((2, 6, 4, 3), id="height"),
        pytest.param((2, 6, 3, 2), id="width"),
        pytest.param((2, 5, 3, 3), id="channels"),
        pytest.param((1, 6, 3, 3), id="images"),
        pytest.param((6, 3, 3), id="unbatched_beside_batched"),
        pytest.param((), id="number"),
    ],
)
def test_grad_output_of_another_size(size: tuple[int, ...]) -> None:
    message = SIZE_TOLD.format(list(size))
    input, weight, grad_output = torch.ones(INPUT), torch.ones(WEIGHT), torch.ones(size)
    assert error_of(convgrad_ext.conv2d_input, INPUT, weight, grad_output) == (
        RuntimeError,
        message,
    )
    assert error_of(convgrad_ext.conv2d_weight, input, WEIGHT, grad_output) == (
        RuntimeError,
        message,
    )


def test_batched_grad_output_of_one_image() -> None:
    """Neither may be taken for the other; the message names the sizes that do not go together."""
    input, weight, grad_output = torch.ones(INPUT[1:]), torch.ones(WEIGHT), torch.ones(OUTPUT)
    told = "expected grad_output to have the size"
    with pytest.raises(RuntimeError, match=told):
        convgrad_ext.conv2d_input(INPUT[1:], weight, grad_output)
    with pytest.raises(RuntimeError, match=told):
        convgrad_ext.conv2d_weight(input, WEIGHT, grad_output)


NOT_A_SIZE = [
    pytest.param(None, id="none"),
    pytest.param(5, id="int"),
    pytest.param("2455", id="string"),
    pytest.param((2, 4.0, 5, 5), id="with_float"),
    pytest.param((2, 4, True, 5), id="with_bool"),
    pytest.param([2, 4, None, 5], id="with_none"),
]


@pytest.mark.parametrize("size", NOT_A_SIZE)
def test_not_a_size(size: Any) -> None:
    operand, grad_output = torch.ones(INPUT), torch.ones(OUTPUT)
    told = "convgrad_ext: {} must be a size, a tuple of ints, but got " + repr(size)
    assert error_of(convgrad_ext.conv2d_input, size, operand, grad_output) == (
        TypeError,
        told.format("input_size"),
    )
    assert error_of(convgrad_ext.conv2d_weight, operand, size, grad_output) == (
        TypeError,
        told.format("weight_size"),
    )


@pytest.mark.parametrize("size", [(), (5, 5), (1, 2, 4, 5, 5)], ids=str)
def test_input_size_of_wrong_length(size: tuple[int, ...]) -> None:
    told = "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: "
    ours = error_of(convgrad_ext.conv2d_input, size, torch.ones(WEIGHT), torch.ones(OUTPUT))
    assert ours == (RuntimeError, told + str(list(size)))


@pytest.mark.parametrize(
    "size", [(-2, 4, 5, 5), (2, -4, 5, 5), (2, 4, -5, 5), (2, 4, 5, -5)], ids=str
)
def test_negative_input_size(size: tuple[int, ...]) -> None:
    """Never an allocation of a negative size; the size asked for is in the message."""
    asked = next(str(extent) for extent in size if extent < 0)
    with pytest.raises(RuntimeError, match=asked):
        convgrad_ext.conv2d_input(size, torch.ones(WEIGHT), torch.ones(OUTPUT))


@pytest.mark.parametrize("size", [(6, 4, 0, 3), (6, 4, 3, 0)], ids=str)
def test_kernel_without_taps(size: tuple[int, ...]) -> None:
    """PyTorch's backends each fail in their own way, or give zeros."""
    input, weight, grad_output = torch.ones(INPUT), torch.ones(size), torch.ones(OUTPUT)
    ours = (
        RuntimeError,
        f"weight: kernel size must be at least 1 x 1, but got weight of size {list(size)}",
    )
    assert error_of(convgrad_ext.conv2d, input, weight) == ours
    assert error_of(convgrad_ext.conv2d_input, INPUT, weight, grad_output) == ours
    assert error_of(convgrad_ext.conv2d_weight, input, size, grad_output) == ours


@pytest.mark.parametrize(
    "padding",
    [((-1, 0), (0, 0)), ((0, -1), (0, 0)), ((0, 0), (-1, 0)), ((3, 3), (3, -1))],
    ids=["top", "bottom", "left", "right"],
)
def test_negative_padding_of_one_side(padding: tuple) -> None:
    ours = error_of(convgrad_ext.conv2d, torch.ones(INPUT), torch.ones(WEIGHT), padding=padding)
    assert ours == (RuntimeError, "negative padding is not supported")


@pytest.mark.parametrize("stride", [0, -1, (1, 0)], ids=str)
def test_same_padding_of_a_bad_stride(stride: Any) -> None:
    """PyTorch takes no stride at all with 'same'; here any stride that is one."""
    input, weight = torch.ones(INPUT), torch.ones(WEIGHT)
    ours = error_of(convgrad_ext.conv2d, input, weight, padding="same", stride=stride)
    assert ours == (RuntimeError, "non-positive stride is not supported")


HUGE = 2**63 - 1


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"padding": 2**62}, id="padding"),
        pytest.param({"padding": HUGE}, id="padding_int64"),
        pytest.param({"padding": ((0, 0), (0, HUGE))}, id="padding_of_one_side"),
        pytest.param({"dilation": 2**62}, id="dilation"),
        pytest.param({"dilation": HUGE}, id="dilation_int64"),
        pytest.param({"dilation": HUGE, "padding": "same"}, id="dilation_same"),
    ],
)
def test_extents_beyond_64_bits_are_not_wrapped_around(params: dict[str, Any]) -> None:
    """Their sums and products leave int64: an error, and no output of some size left over."""
    with pytest.raises((RuntimeError, ValueError, OverflowError)):
        convgrad_ext.conv2d(torch.ones(INPUT), torch.ones(WEIGHT), **params)


TOO_LARGE = 2**63, -(2**63) - 1, 10**30


@pytest.mark.parametrize("number", TOO_LARGE, ids=["2**63", "-2**63-1", "10**30"])
@pytest.mark.parametrize("form", [lambda n: n, lambda n: (n, 1), lambda n: [1, n]])
@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
def test_numbers_beyond_64_bits(name: str, form: Any, number: int) -> None:
    """PyTorch's type: a ValueError for a number, a TypeError for a number in a tuple."""
    input, weight, grad_output = (torch.ones(size) for size in (INPUT, WEIGHT, OUTPUT))
    value = form(number)
    kind = error_of(F.conv2d, input, weight, **{name: value})[0]
    assert kind is (ValueError if isinstance(value, int) else TypeError)
    ours = kind, f"convgrad_ext: {name} must be within -2**63 and 2**63 - 1, but got {value}"
    assert error_of(convgrad_ext.conv2d, input, weight, **{name: value}) == ours
    assert error_of(convgrad_ext.conv2d_input, INPUT, weight, grad_output, **{name: value}) == ours
    assert error_of(convgrad_ext.conv2d_weight, input, WEIGHT, grad_output, **{name: value}) == ours
    layers = (made(4, 6, 3, **{name: value}) for made in (convgrad_ext.Conv2d, nn.Conv2d))
    assert len({error_of(layer, input)[0] for layer in layers}) == 1


@pytest.mark.parametrize("number", TOO_LARGE, ids=["2**63", "-2**63-1", "10**30"])
def test_other_numbers_beyond_64_bits(number: int) -> None:
    input, weight, grad_output = (torch.ones(size) for size in (INPUT, WEIGHT, OUTPUT))
    told = "convgrad_ext: {} must be within -2**63 and 2**63 - 1, but got {}"
    assert error_of(F.conv2d, input, weight, groups=number)[0] is ValueError
    ours = ValueError, told.format("groups", number)
    assert error_of(convgrad_ext.conv2d, input, weight, groups=number) == ours
    sides = ((0, number), (0, 0))
    ours = TypeError, told.format("padding", sides)
    assert error_of(convgrad_ext.conv2d, input, weight, padding=sides) == ours
    ours = ValueError, told.format("stride", number)
    assert error_of(convgrad_ext.conv2d, input, weight, padding="same", stride=number) == ours
    size = (2, 4, 5, number)
    ours = TypeError, told.format("input_size", size)
    assert error_of(convgrad_ext.conv2d_input, size, weight, grad_output) == ours
    ours = TypeError, told.format("weight_size", size)
    assert error_of(convgrad_ext.conv2d_weight, input, size, grad_output) == ours


@pytest.mark.parametrize("dilation", [2**62, HUGE, (HUGE, 1)], ids=["2**62", "int64", "one_axis"])
@pytest.mark.parametrize("padding", [0, "same"])
def test_one_tap_has_any_dilation(padding: Any, dilation: Any) -> None:
    """It has no next one, so that no product leaves int64."""
    input, weight = torch.ones(INPUT), torch.ones(6, 4, 1, 1)
    params = {"padding": padding, "dilation": dilation}
    theirs = F.conv2d(input, weight, **params)
    assert torch.equal(convgrad_ext.conv2d(input, weight, **params), theirs)
    grad_input = convgrad_ext.conv2d_input(INPUT, weight, theirs, **params)
    assert torch.equal(grad_input, torch.full(INPUT, 24.0))  # 6 filters, each output is 4
    grad_weight = convgrad_ext.conv2d_weight(input, (6, 4, 1, 1), theirs, **params)
    assert torch.equal(grad_weight, torch.full((6, 4, 1, 1), 200.0))  # 2 images of 25 pixels


def test_any_stride_up_to_64_bits() -> None:
    """One output, whatever comes after it."""
    input, weight = torch.ones(INPUT), torch.ones(WEIGHT)
    ours = convgrad_ext.conv2d(input, weight, stride=HUGE)
    assert torch.equal(ours, F.conv2d(input, weight, stride=HUGE))


FULL = 2**62 - 1  # of one side, the most that is taken


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("kernel", [3, 1])
@pytest.mark.parametrize(
    ("sides", "dimension"),
    [
        ((FULL, FULL, 0, 0), 0),
        ((0, 0, FULL, FULL), 1),
        ((FULL, FULL - 3, 0, 0), 0),
        ((FULL, FULL, FULL, FULL), 0),
    ],
    ids=["rows", "columns", "by_one", "both"],
)
def test_padded_extents_beyond_64_bits(
    sides: tuple[int, ...], dimension: int, kernel: int, device: str
) -> None:
    """No wrapped negative number: the sides as they were given."""
    input = torch.ones(INPUT, device=device)
    weight = torch.ones(6, 4, kernel, kernel, device=device)
    grad_output = torch.ones(OUTPUT, device=device)
    lo, hi = sides[2 * dimension : 2 * dimension + 2]
    ours = (
        RuntimeError,
        f"Given padding=({lo}, {hi}) at dimension {dimension} of 5 pixels, expected at most "
        "9223372036854775807 pixels with the padding",
    )
    window = (1, 1), sides, (1, 1), 1
    assert error_of(RAW.conv2d, input, weight, None, *window) == ours
    assert error_of(RAW.conv2d_input, INPUT, weight, grad_output, *window) == ours
    size = tuple(weight.shape)
    assert error_of(RAW.conv2d_weight, input, size, grad_output, *window) == ours


def test_channels_beyond_64_bits() -> None:
    """4 groups of 2**62 channels are 2**64, which would wrap round to the input's none."""
    input, grad_output = torch.ones(1, 0, 5, 5), torch.ones(1, 4, 5, 5)
    with pytest.raises(RuntimeError, match="to have 9223372036854775807 channels, but got 0"):
        convgrad_ext.conv2d_weight(input, (4, 2**62, 1, 1), grad_output, groups=4)


# Layouts


def nested(*sizes: tuple[int, ...], layout: torch.layout = torch.strided) -> Tensor:
    return torch.nested.nested_tensor([torch.ones(size) for size in sizes], layout=layout)


LAYOUTS = [
    pytest.param(Tensor.to_mkldnn, "Mkldnn", id="mkldnn"),
    pytest.param(Tensor.to_sparse, "Sparse", id="sparse"),
]


@pytest.mark.parametrize("recorded", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize(("laid_out", "layout"), LAYOUTS)
@pytest.mark.parametrize("name", ["input", "weight", "bias"])
def test_layouts_are_refused_by_name(name: str, laid_out: Any, layout: str, recorded: bool) -> None:
    tensors = {"input": torch.ones(INPUT), "weight": torch.ones(WEIGHT), "bias": torch.ones(6)}
    tensors[name] = laid_out(tensors[name])
    if recorded:
        tensors = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
    ours = (
        NotImplementedError,
        f"convgrad_ext: {name} must be a dense tensor, but got one of layout {layout}: call its "
        "to_dense() first",
    )
    assert error_of(convgrad_ext.conv2d, **tensors) == ours
    assert error_of(RAW.conv2d, *tensors.values(), *WINDOW) == ours


@pytest.mark.parametrize(("laid_out", "layout"), LAYOUTS)
@pytest.mark.parametrize("name", ["input", "weight", "grad_output"])
def test_layouts_are_refused_by_the_gradients(name: str, laid_out: Any, layout: str) -> None:
    sizes = {"input": INPUT, "weight": WEIGHT, "grad_output": OUTPUT}
    tensors = {n: torch.ones(size) for n, size in sizes.items()}
    tensors[name] = laid_out(tensors[name])
    told = f"convgrad_ext: {name} must be a dense tensor, but got one of layout {layout}"
    if name != "input":
        with pytest.raises(NotImplementedError, match=told):
            convgrad_ext.conv2d_input(INPUT, tensors["weight"], tensors["grad_output"])
    if name != "weight":
        with pytest.raises(NotImplementedError, match=told):
            convgrad_ext.conv2d_weight(tensors["input"], WEIGHT, tensors["grad_output"])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_nested_tensors_are_refused_by_name(layout: torch.layout) -> None:
    images = nested((4, 5, 5), (4, 5, 5), layout=layout)
    weight, grad_output = torch.ones(WEIGHT), torch.ones(OUTPUT)
    told = "convgrad_ext: {} must be a dense tensor, but got a nested one"
    ours = NotImplementedError, told.format("input")
    assert error_of(convgrad_ext.conv2d, images, weight) == ours
    assert error_of(convgrad_ext.Conv2d(4, 6, 3), images) == ours
    assert error_of(convgrad_ext.conv2d_weight, images, WEIGHT, grad_output) == ours
    ours = NotImplementedError, told.format("weight")
    assert error_of(convgrad_ext.conv2d, torch.ones(INPUT), images) == ours
    ours = NotImplementedError, told.format("grad_output")
    assert error_of(convgrad_ext.conv2d_input, INPUT, weight, images) == ours


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_operators_refuse_nested_tensors_by_name() -> None:
    images = nested((4, 5, 5), (4, 6, 5))
    ours = NotImplementedError, "convgrad_ext: input must be a dense tensor, but got a nested one"
    assert error_of(RAW.conv2d, images, torch.ones(WEIGHT), None, *WINDOW) == ours
    weight = torch.ones(WEIGHT, requires_grad=True)
    assert error_of(RAW.conv2d, images, weight, None, *WINDOW) == ours


# The operators themselves

WINDOW = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
RANK_TOLD = (
    "Expected 4-dimensional input for 4-dimensional weight [6, 4, 3, 3], but got {}-dimensional"
)


@pytest.mark.parametrize("size", [(4, 5, 5), (1, 2, 4, 5, 5)], ids=["3", "5"])
def test_operators_take_batches_alone(size: tuple[int, ...]) -> None:
    """The unbatched form is the Python function's."""
    input, weight, grad_output = torch.ones(size), torch.ones(WEIGHT), torch.ones(OUTPUT)
    for kind, message in (
        error_of(RAW.conv2d, input, weight, None, *WINDOW),
        error_of(RAW.conv2d_input, size, weight, grad_output, *WINDOW),
        error_of(RAW.conv2d_weight, input, WEIGHT, grad_output, *WINDOW),
    ):
        assert kind is RuntimeError
        assert message.startswith(RANK_TOLD.format(len(size)))


@pytest.mark.parametrize(
    ("window", "message"),
    [
        pytest.param(
            ((1, 1), (0, 0), (1, 1), 1),
            "stride=[1, 1], padding=[0, 0], dilation=[1, 1]",
            id="padding_of_two",
        ),
        pytest.param(
            ((1,), (0, 0, 0, 0), (1, 1), 1),
            "stride=[1], padding=[0, 0, 0, 0], dilation=[1, 1]",
            id="stride_of_one",
        ),
        pytest.param(
            ((), (0, 0, 0, 0), (1, 1), 1),
            "stride=[], padding=[0, 0, 0, 0], dilation=[1, 1]",
            id="stride_of_none",
        ),
        pytest.param(
            ((1, 1), (0, 0, 0, 0), (1, 1, 1), 1),
            "stride=[1, 1], padding=[0, 0, 0, 0], dilation=[1, 1, 1]",
            id="dilation_of_three",
        ),
    ],
)
def test_operators_count_their_numbers(window: tuple, message: str) -> None:
    """They take one form only: reading past the end of a short list would be silent."""
    input, weight, grad_output = torch.ones(INPUT), torch.ones(WEIGHT), torch.ones(OUTPUT)
    ours = (
        RuntimeError,
        "expected 2 values of stride, 4 of padding (top, bottom, left, right) and 2 of dilation, "
        "but got " + message,
    )
    assert error_of(RAW.conv2d, input, weight, None, *window) == ours
    assert error_of(RAW.conv2d_input, INPUT, weight, grad_output, *window) == ours
    assert error_of(RAW.conv2d_weight, input, WEIGHT, grad_output, *window) == ours


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (((1, 0), (0, 0, 0, 0), (1, 1), 1), "non-positive stride is not supported"),
        (((1, 1), (0, 0, 0, -1), (1, 1), 1), "negative padding is not supported"),
        (((1, 1), (0, 0, 0, 0), (0, 1), 1), "non-positive dilation is not supported"),
        (((1, 1), (0, 0, 0, 0), (1, 1), 0), "non-positive groups is not supported"),
    ],
    ids=["stride", "padding", "dilation", "groups"],
)
def test_operators_check_for_themselves(window: tuple, message: str) -> None:
    input, weight, grad_output = torch.ones(INPUT), torch.ones(WEIGHT), torch.ones(OUTPUT)
    ours = RuntimeError, message
    assert error_of(RAW.conv2d, input, weight, None, *window) == ours
    assert error_of(RAW.conv2d_input, INPUT, weight, grad_output, *window) == ours
    assert error_of(RAW.conv2d_weight, input, WEIGHT, grad_output, *window) == ours


# After a failure


def selected_kernel() -> str | None:
    previous = _C.select_kernel(None)
    _C.select_kernel(previous)
    return previous


def state_of(tensor: Tensor | None) -> Any:
    if tensor is None:
        return None
    grad = None if tensor.grad is None else tensor.grad.tolist()
    return (
        tensor.tolist(),
        grad,
        tensor._version,
        tensor.requires_grad,
        tensor.stride(),
        id(tensor.grad_fn),
    )


@pytest.mark.parametrize("call", BAD_CALLS, ids=str)
def test_a_failed_call_changes_nothing(call: BadCall) -> None:
    tensors = call.tensors()
    for tensor in tensors[:2]:
        tensor.requires_grad_().grad = torch.full_like(tensor, 7)
    before = [state_of(tensor) for tensor in tensors]
    with convgrad_ext.use_kernel("reference"):
        error_of(convgrad_ext.conv2d, *tensors, **call.params)
        assert selected_kernel() == "reference"
    assert [state_of(tensor) for tensor in tensors] == before


@pytest.mark.parametrize(("name", "value", "expected"), WRONG_TYPES)
def test_a_failed_argument_changes_nothing(name: str, value: Any, expected: str) -> None:
    input, weight = torch.ones(INPUT, requires_grad=True), torch.ones(WEIGHT, requires_grad=True)
    before = state_of(input), state_of(weight), repr(value)
    error_of(convgrad_ext.conv2d, input, weight, **{name: value})
    assert (state_of(input), state_of(weight), repr(value)) == before


def test_a_failed_gradient_changes_nothing() -> None:
    operand, grad_output = torch.ones(INPUT, requires_grad=True), torch.ones(1, 6, 3, 3)
    before = state_of(operand), state_of(grad_output)
    error_of(convgrad_ext.conv2d_weight, operand, WEIGHT, grad_output)
    error_of(convgrad_ext.conv2d_input, INPUT, operand, grad_output)
    assert (state_of(operand), state_of(grad_output)) == before


def test_a_failed_call_may_be_repeated_right() -> None:
    """The same thread, the same tensors, one argument mended."""
    input, weight = torch.ones(INPUT), torch.ones(WEIGHT)
    error_of(convgrad_ext.conv2d, input, weight, stride=0)
    assert torch.equal(convgrad_ext.conv2d(input, weight, stride=1), torch.full(OUTPUT, 36.0))


def test_a_failure_ends_the_choice_of_kernel() -> None:
    assert selected_kernel() is None
    with (
        pytest.raises(RuntimeError, match="non-positive stride"),
        convgrad_ext.use_kernel("reference"),
    ):
        convgrad_ext.conv2d(torch.ones(INPUT), torch.ones(WEIGHT), stride=0)
    assert selected_kernel() is None
