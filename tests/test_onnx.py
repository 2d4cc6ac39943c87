"""Export to ONNX: one standard Conv for each layer, and onnxruntime computes what PyTorch does.

Expected values come from PyTorch's convolution of the padded image, in float64.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

import convgrad_ext
import convgrad_ext.onnx
from convgrad_ext.cases import CASES, Case

pytestmark = [
    # torch warns of its own code while it exports
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    # the TorchScript exporter, which older torch and many tools use, is deprecated
    pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export"),
    pytest.mark.filterwarnings("ignore:The feature will be removed"),
    pytest.mark.filterwarnings("ignore:Constant folding - Only steps=1"),
    # a trace keeps this padding for the traced image, and so does the exported model
    pytest.mark.filterwarnings("ignore:convgrad_ext. padding='same' with stride"),
]
BATCH = 3  # not that of any case: models are exported with a dynamic batch
Proto = Any


class Layers(nn.Module):
    """A layer for each case, every other one without bias, each on an input of its own."""

    def __init__(self, cases: tuple[Case, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            convgrad_ext.Conv2d(*c.channels, c.kernel, bias=i % 2 == 0, **c.params)
            for i, c in enumerate(cases)
        )

    def forward(self, *images: Tensor) -> list[Tensor]:
        return [layer(image) for layer, image in zip(self.layers, images, strict=True)]


def export_by_dynamo(model: nn.Module, images: list[Tensor]) -> Proto:
    batch: Any = tuple({0: Dim.DYNAMIC} for _ in images)
    if isinstance(model, Layers):  # *images is one argument
        batch = (batch,)
    program = torch.onnx.export(model, tuple(images), verbose=False, dynamic_shapes=batch)
    return program.model_proto


def export_by_torchscript(model: nn.Module, images: list[Tensor]) -> Proto:
    names = [f"image{i}" for i, _ in enumerate(images)]
    axes = {name: {0: "N"} for name in names}
    file = io.BytesIO()
    torch.onnx.export(
        model, tuple(images), file, dynamo=False, input_names=names, dynamic_axes=axes
    )
    return onnx.load_from_string(file.getvalue())


def run(proto: Proto, images: list[Tensor]) -> list[Tensor]:
    """Computed by onnxruntime."""
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    names = [i.name for i in session.get_inputs()]
    feed = {name: image.numpy() for name, image in zip(names, images, strict=True)}
    return [torch.from_numpy(output) for output in session.run(None, feed)]


def op_types(proto: Proto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def attributes(node: Any) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


EXPORTERS: dict[str, Callable[..., Proto]] = {
    "dynamo": export_by_dynamo,
    "torchscript": export_by_torchscript,
}


@pytest.fixture(scope="module", params=EXPORTERS)
def exported(request: pytest.FixtureRequest) -> tuple[Proto, list[Tensor], list[Tensor]]:
    """The model of all cases, exported with their own batches and run with another."""
    torch.manual_seed(0)
    model = Layers(CASES).eval()
    export = EXPORTERS[request.param]
    proto = export(model, [torch.randn(2, *c.input_size[1:]) for c in CASES])
    images = [torch.randn(BATCH, *c.input_size[1:]) for c in CASES]
    expected = [
        c.torch_conv2d(image.double(), *(p.detach().double() for p in layer.parameters()))
        for c, layer, image in zip(CASES, model.layers, images, strict=True)
    ]
    return proto, run(proto, images), expected


def test_every_layer_is_one_conv(exported: Any) -> None:
    proto, _, _ = exported
    assert op_types(proto) == ["Conv"] * len(CASES)
    assert {node.domain for node in proto.graph.node} == {""}


@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(c) for c in CASES])
def test_a_conv_has_the_case_s_attributes(exported: Any, number: int) -> None:
    """pads are (top, left, bottom, right), 'same' and 'valid' are numbers, bias is there or not."""
    proto, _, _ = exported
    case, node = CASES[number], proto.graph.node[number]
    top, bottom, left, right = case.sides
    found = attributes(node)
    assert found["pads"] == [top, left, bottom, right]
    assert found["group"] == case.groups
    for name in ("stride", "dilation"):
        value = getattr(case, name)
        assert found[name + "s"] == list(value if isinstance(value, tuple) else (value, value))
    assert found.get("auto_pad", b"NOTSET") == b"NOTSET"
    assert len(node.input) == (3 if number % 2 == 0 else 2)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(c) for c in CASES])
def test_onnxruntime_computes_the_same(exported: Any, number: int) -> None:
    _, actual, expected = exported
    assert actual[number].shape == expected[number].shape
    torch.testing.assert_close(actual[number].double(), expected[number], rtol=1e-5, atol=1e-5)


class Residual(nn.Module):
    """The layers that a network has around its convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.branch = nn.Conv2d(8, 8, 3, padding="same", groups=4, bias=False)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        x = x + self.branch(x)
        return self.head(x)


@pytest.mark.parametrize("export", EXPORTERS.values(), ids=EXPORTERS)
def test_a_converted_network_is_exported_as_it_was(export: Callable[..., Proto]) -> None:
    """The same operators as before convert, and the same numbers."""
    torch.manual_seed(0)
    model, images = Residual().eval(), [torch.randn(2, 3, 9, 8)]
    before = export(model, images)
    after = export(convgrad_ext.convert(model), images)
    assert op_types(after) == op_types(before)
    assert op_types(after).count("Conv") == 2
    image = torch.randn(5, 3, 9, 8)
    torch.testing.assert_close(run(after, [image])[0], model(image).detach())


@pytest.mark.parametrize("export", EXPORTERS.values(), ids=EXPORTERS)
def test_other_padding_modes_pad_first(export: Callable[..., Proto]) -> None:
    """A Conv pads with zeros alone: the image is padded by a node of its own, as for nn.Conv2d."""
    layer = convgrad_ext.Conv2d(1, 2, 3, padding=((2, 0), (0, 1)), padding_mode="reflect").eval()
    proto = export(layer, [torch.randn(2, 1, 5, 6)])
    assert [t for t in op_types(proto) if t in ("Pad", "Conv")] == ["Pad", "Conv"]
    image = torch.randn(BATCH, 1, 5, 6)
    torch.testing.assert_close(run(proto, [image])[0], layer(image).detach())


def test_height_and_width_may_be_free() -> None:
    layer = convgrad_ext.Conv2d(1, 2, 3, stride=2, padding=((2, 0), (0, 1))).eval()
    image = torch.randn(2, 1, 7, 6)
    sizes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    program = torch.onnx.export(layer, (image,), verbose=False, dynamic_shapes=sizes)
    assert op_types(program.model_proto) == ["Conv"]
    larger = torch.randn(BATCH, 1, 12, 9)
    torch.testing.assert_close(run(program.model_proto, [larger])[0], layer(larger).detach())


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_strided_same_follows_free_sizes(mode: str) -> None:
    """Its padding is arithmetic on the sizes, and ONNX divides integers towards zero."""
    layer = convgrad_ext.Conv2d(2, 3, 5, 4, "same", padding_mode=mode).eval()
    sizes = ({2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    image = torch.randn(1, 2, 11, 12)
    proto = torch.onnx.export(layer, (image,), verbose=False, dynamic_shapes=sizes).model_proto
    for size in ((7, 8), (9, 10), (12, 13), (23, 31)):
        image = torch.randn(1, 2, *size)
        missing = [max(4 * (-(-extent // 4) - 1) + 5 - extent, 0) for extent in reversed(size)]
        sides = [side for total in missing for side in (total // 2, total - total // 2)]
        padded = F.pad(image, sides, mode="constant" if mode == "zeros" else mode)
        expected = F.conv2d(padded, layer.weight, layer.bias, stride=4)
        torch.testing.assert_close(run(proto, [image])[0], expected.detach())


def test_one_image_without_a_batch() -> None:
    layer = convgrad_ext.Conv2d(1, 2, 3).eval()
    image = torch.randn(1, 5, 6)
    proto = torch.onnx.export(layer, (image,), verbose=False).model_proto
    assert op_types(proto) == ["Unsqueeze", "Conv", "Squeeze"]
    torch.testing.assert_close(run(proto, [image])[0], layer(image).detach())


def test_a_program_exported_beforehand() -> None:
    """It contains our operator until it is decomposed: there is no model to trace again."""
    layer = convgrad_ext.Conv2d(2, 4, 3, padding=((1, 0), (0, 2)), groups=2).eval()
    image = torch.randn(2, 2, 5, 6)
    program = torch.export.export(layer, (image,))
    assert "convgrad_ext.conv2d.default" in [str(node.target) for node in program.graph.nodes]
    standard = program.run_decompositions(convgrad_ext.onnx.decompositions())
    assert torch.equal(
        standard.module()(image),
        F.conv2d(F.pad(image, (0, 2, 1, 0)), *layer.parameters(), groups=2),
    )
    proto = torch.onnx.export(standard, verbose=False).model_proto
    assert op_types(proto) == ["Conv"]
    torch.testing.assert_close(run(proto, [image])[0], layer(image).detach())


def test_a_scripted_model() -> None:
    """The exporter reads its code, so convgrad_ext.onnx has to be imported before."""
    layers = nn.Sequential(
        convgrad_ext.Conv2d(1, 2, 3, padding="same", dilation=2),
        convgrad_ext.Conv2d(2, 2, 3, stride=2, padding=((1, 0), (0, 2)), bias=False),
    ).eval()
    images = [torch.randn(2, 1, 7, 6)]
    proto = export_by_torchscript(torch.jit.script(layers), images)
    assert [attributes(n)["pads"] for n in proto.graph.node if n.op_type == "Conv"] == [
        [2, 2, 2, 2],
        [1, 0, 0, 2],
    ]
    torch.testing.assert_close(run(proto, images)[0], layers(*images).detach())


def test_a_scripted_model_whose_padding_is_not_a_number_is_refused() -> None:
    """'same' with a stride depends on the image, which a scripted model does not have."""
    layer = torch.jit.script(convgrad_ext.Conv2d(1, 1, 3, stride=2, padding="same").eval())
    with pytest.raises(torch.onnx.errors.SymbolicValueError, match="not constant"):
        export_by_torchscript(layer, [torch.randn(2, 1, 7, 6)])


def test_the_export_leaves_no_trace() -> None:
    """After it a model computes, and is exported by torch.export, with our operator as before."""
    layer, image = convgrad_ext.Conv2d(1, 2, 3).eval(), torch.randn(2, 1, 5, 6)
    torch.onnx.export(layer, (image,), verbose=False)
    program = torch.export.export(layer, (image,))
    targets = [n.target for n in program.graph.nodes if n.op == "call_function"]
    assert targets == [torch.ops.convgrad_ext.conv2d.default]


def test_the_package_loads_nothing_of_onnx() -> None:
    code = "import convgrad_ext, sys; print([m for m in sys.modules if 'onnx' in m.split('.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
