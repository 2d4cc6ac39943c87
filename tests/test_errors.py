"""Every error: of PyTorch's type and with PyTorch's message for the same call, where it has one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from bad_calls import BAD_CALLS, INPUT, OUTPUT, PARAMS, RAW, WEIGHT, BadCall
from refusals import error_of
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import convgrad_ext
from convgrad_ext import _C


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
    """PyTorch's sentence. Some of its backends add to it, or have another sentence."""
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
    message = (
        "grad_output type (torch.DoubleTensor) and {} type (torch.FloatTensor) should be the same"
    )
    ours = error_of(convgrad_ext.conv2d_input, INPUT, weight, grad_output)
    assert ours == (RuntimeError, message.format("weight"))
    ours = error_of(convgrad_ext.conv2d_weight, input, WEIGHT, grad_output)
    assert ours == (RuntimeError, message.format("input"))


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint16, torch.uint32, torch.float8_e4m3fn], ids=str
)
def test_unsupported_dtypes(dtype: torch.dtype) -> None:
    """NotImplementedError as PyTorch's, which names the loop that it did not find."""
    input, weight, grad_output = (torch.ones(s).to(dtype) for s in (INPUT, WEIGHT, OUTPUT))
    assert error_of(F.conv2d, input, weight)[0] is NotImplementedError
    message = r"convgrad_ext: convolution is not implemented for '\w+'"
    with pytest.raises(NotImplementedError, match=message):
        convgrad_ext.conv2d(input, weight)
    with pytest.raises(NotImplementedError, match=message):
        convgrad_ext.conv2d_input(INPUT, weight, grad_output)
    with pytest.raises(NotImplementedError, match=message):
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


def test_two_gpus_are_two_devices() -> None:
    """A kernel that is written in Python asks this way for the memory of its result."""
    with FakeTensorMode():
        input, weight = torch.empty(INPUT, device="cuda:0"), torch.empty(WEIGHT, device="cuda:1")
        with pytest.raises(RuntimeError, match="Input is on cuda:0 and weight is on cuda:1"):
            _C.empty_output(input, weight, None, (1, 1), (0, 0, 0, 0), (1, 1), 1)


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
    """PyTorch accepts a tensor without data, but it is probably a layer that is not loaded yet."""
    input, weight, bias = (
        torch.ones(size, device=device)
        for size, device in zip((INPUT, WEIGHT, WEIGHT[:1]), devices, strict=True)
    )
    assert error_of(convgrad_ext.conv2d, input, weight, bias) == (RuntimeError, message)


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
    assert error_of(RAW.conv2d, *tensors.values(), *PARAMS) == ours


@pytest.mark.parametrize(("laid_out", "layout"), LAYOUTS)
@pytest.mark.parametrize("name", ["input", "weight", "grad_output"])
def test_layouts_are_refused_by_the_gradients(name: str, laid_out: Any, layout: str) -> None:
    sizes = {"input": INPUT, "weight": WEIGHT, "grad_output": OUTPUT}
    tensors = {n: torch.ones(size) for n, size in sizes.items()}
    tensors[name] = laid_out(tensors[name])
    message = f"convgrad_ext: {name} must be a dense tensor, but got one of layout {layout}"
    if name != "input":
        with pytest.raises(NotImplementedError, match=message):
            convgrad_ext.conv2d_input(INPUT, tensors["weight"], tensors["grad_output"])
    if name != "weight":
        with pytest.raises(NotImplementedError, match=message):
            convgrad_ext.conv2d_weight(tensors["input"], WEIGHT, tensors["grad_output"])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_nested_tensors_are_refused_by_name(layout: torch.layout) -> None:
    images = nested((4, 5, 5), (4, 5, 5), layout=layout)
    weight, grad_output = torch.ones(WEIGHT), torch.ones(OUTPUT)
    message = "convgrad_ext: {} must be a dense tensor, but got a nested one"
    ours = NotImplementedError, message.format("input")
    assert error_of(convgrad_ext.conv2d, images, weight) == ours
    assert error_of(convgrad_ext.Conv2d(4, 6, 3), images) == ours
    assert error_of(convgrad_ext.conv2d_weight, images, WEIGHT, grad_output) == ours
    ours = NotImplementedError, message.format("weight")
    assert error_of(convgrad_ext.conv2d, torch.ones(INPUT), images) == ours
    ours = NotImplementedError, message.format("grad_output")
    assert error_of(convgrad_ext.conv2d_input, INPUT, weight, images) == ours


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_operators_refuse_nested_tensors_by_name() -> None:
    images = nested((4, 5, 5), (4, 6, 5))
    ours = NotImplementedError, "convgrad_ext: input must be a dense tensor, but got a nested one"
    assert error_of(RAW.conv2d, images, torch.ones(WEIGHT), None, *PARAMS) == ours
    weight = torch.ones(WEIGHT, requires_grad=True)
    assert error_of(RAW.conv2d, images, weight, None, *PARAMS) == ours
