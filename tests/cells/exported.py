"""A model on paper: export, AOTInductor, ONNX, torch.fx, TorchScript."""

from __future__ import annotations

import copy
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from cells import OURS, Implementation, cell
from cells.plain import PARAMS, assert_same, conv2d, gradients_of, loss_of, operands

GROUP = "export"
EXPORTED_SIZE = (2, 4, 8, 9)  # of the image that a model is exported with
SIZES = ((2, 4, 8, 9), (5, 4, 11, 6))


def model_of(implementation: Implementation) -> nn.Module:
    """A convolution between two others, in double precision."""
    torch.manual_seed(0)
    layer = implementation.Conv2d(4, 6, (3, 2), **PARAMS)
    return nn.Sequential(layer, nn.ReLU()).double().eval()


def expected_of(model: Any, image: Tensor) -> Tensor:
    return conv2d(image, model[0].weight, model[0].bias, **PARAMS).relu()


def image_of(size: tuple[int, ...]) -> Tensor:
    return torch.randn(size, dtype=torch.float64)


def free_sizes() -> Any:
    Dim = torch.export.Dim  # noqa: N806  a class
    return ({0: Dim("N"), 2: Dim("H", min=5), 3: Dim("W", min=6)},)


def exported(model: nn.Module) -> Any:
    return torch.export.export(model, (image_of(EXPORTED_SIZE),), dynamic_shapes=free_sizes())


def assert_computes(program: Any, model: nn.Module, sizes: Any = SIZES) -> None:
    for size in sizes:
        image = image_of(size)
        assert_same(program(image), expected_of(model, image))


@cell(GROUP, "torch.export", "free batch and image sizes, called with others")
def check_export(implementation: Implementation) -> None:
    model = model_of(implementation)
    program = exported(model)
    operator = "convgrad_ext.conv2d.default" if implementation is OURS else "aten.conv2d.default"
    assert operator in [str(node.target) for node in program.graph.nodes]
    assert_computes(program.module(), model)


def circular_layer(implementation: Implementation) -> Any:
    torch.manual_seed(0)
    layer = implementation.Conv2d(4, 6, 3, padding="same", padding_mode="circular")
    return layer.double().eval()


def assert_circular(program: Any, layer: Any) -> None:
    for size in SIZES:
        image = image_of(size)
        padded = F.pad(image, (1, 1, 1, 1), mode="circular")
        assert_same(program(image), conv2d(padded, layer.weight, layer.bias))


@cell(GROUP, "strict export", "of circular `padding='same'`, free batch and image sizes")
def check_strict_export(implementation: Implementation) -> None:
    layer, arguments = circular_layer(implementation), (image_of(EXPORTED_SIZE),)
    program = torch.export.export(layer, arguments, dynamic_shapes=free_sizes(), strict=True)
    assert_circular(program.module(), layer)


@cell(GROUP, "saved and loaded", "`torch.export.save` and `load`, free sizes")
def check_saved(implementation: Implementation) -> None:
    model, file = model_of(implementation), io.BytesIO()
    torch.export.save(exported(model), file)
    file.seek(0)
    assert_computes(torch.export.load(file).module(), model)


@cell(GROUP, "run_decompositions", "the exported graph in the operators of inference")
def check_decompositions(implementation: Implementation) -> None:
    model = model_of(implementation)
    assert_computes(exported(model).run_decompositions().module(), model)


@cell(GROUP, "unflatten", "the exported graph as modules again, with their names")
def check_unflatten(implementation: Implementation) -> None:
    model = model_of(implementation)
    modules = torch.export.unflatten(exported(model))
    assert modules.get_submodule("0").weight.shape == (6, 2, 3, 2)
    assert_computes(modules, model)


@cell(GROUP, "AOTInductor", "compiled ahead of time, packaged, loaded; free sizes", slow=True)
def check_aot_inductor(implementation: Implementation) -> None:
    model = model_of(implementation)
    with tempfile.TemporaryDirectory() as folder:
        package = str(Path(folder) / "model.pt2")
        torch._inductor.aoti_compile_and_package(exported(model), package_path=package)
        assert_computes(torch._inductor.aoti_load_package(package), model)


def assert_same_in_onnxruntime(file: Path, model: nn.Module) -> None:
    """The values in onnxruntime, and that the file has one standard Conv."""
    import onnx
    import onnxruntime

    kinds = [node.op_type for node in onnx.load(file).graph.node]
    assert kinds == ["Conv", "Relu"], kinds
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    image = torch.randn(EXPORTED_SIZE)
    (output,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    assert_same(torch.from_numpy(output), expected_of(model, image), rtol=1e-5)


def register_onnx(name: str, dynamo: bool) -> None:
    @cell(GROUP, name, f"`torch.onnx.export(dynamo={dynamo})`: one `Conv`, run in onnxruntime")
    def check(implementation: Implementation) -> None:
        model = model_of(implementation).float()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own code
            file = Path(folder) / "model.onnx"
            arguments: dict[str, Any] = {"verbose": False} if dynamo else {}
            torch.onnx.export(
                model, (torch.randn(EXPORTED_SIZE),), file, dynamo=dynamo, **arguments
            )
            assert_same_in_onnxruntime(file, model)


register_onnx("ONNX", dynamo=True)
register_onnx("ONNX by TorchScript", dynamo=False)


@cell("tracers", "torch.fx", "`symbolic_trace` of a model, called with other sizes")
def check_fx(implementation: Implementation) -> None:
    model = model_of(implementation)
    assert_computes(torch.fx.symbolic_trace(model), model)


@cell("tracers", "torch.fx, circular", "`symbolic_trace` of circular `padding='same'`")
def check_fx_circular(implementation: Implementation) -> None:
    layer = circular_layer(implementation)
    assert_circular(torch.fx.symbolic_trace(nn.Sequential(layer)), layer)


@cell(
    "tracers",
    "torch.fx, layers as modules",
    "`symbolic_trace` leaves a layer whole",
    limit="`torch.fx` traces into every module from outside of `torch.nn`. Values are right; a "
    "tool that looks for convolutions among the graph's modules does not find ours. In a model "
    "converted with `convert(model, keep_class=True)` they stay PyTorch's to such a tool.",
)
def check_fx_leaves(implementation: Implementation) -> None:
    traced = torch.fx.symbolic_trace(model_of(implementation))
    assert [node.op for node in traced.graph.nodes].count("call_module") == 2


@cell(
    "tracers",
    "torch.fx of the function",
    "`symbolic_trace` of a call with numbers for the parameters",
)
def check_fx_of_the_function(implementation: Implementation) -> None:
    traced = torch.fx.symbolic_trace(lambda x, w, b: implementation.conv2d(x, w, b, **PARAMS))
    image = image_of(SIZES[1])
    _, weight, bias = operands()
    assert_same(traced(image, weight, bias), conv2d(image, weight, bias, **PARAMS))


@cell("tracers", "make_fx", "forward and backward traced into one graph, with symbolic sizes")
def check_make_fx(implementation: Implementation) -> None:
    def step(*tensors: Tensor) -> Any:
        leaves = [t.detach().requires_grad_() for t in tensors]
        return torch.autograd.grad(loss_of(implementation.conv2d)(*leaves), leaves)

    _, weight, bias = operands()
    graph = make_fx(step, tracing_mode="symbolic")(image_of(SIZES[0]), weight, bias)
    image = image_of(SIZES[1])
    assert_same(graph(image, weight, bias), gradients_of(conv2d, image, weight, bias))


@cell("tracers", "torch.jit.trace", "a model, saved and loaded, at another size")
def check_jit_trace(implementation: Implementation) -> None:
    model, file = model_of(implementation), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        torch.jit.save(torch.jit.trace(model, image_of(EXPORTED_SIZE)), file)
        file.seek(0)
        loaded = torch.jit.load(file)
    assert_computes(loaded, model)


@cell("tracers", "torch.jit.script", "a model, saved and loaded, at two sizes")
def check_jit_script(implementation: Implementation) -> None:
    model, file = model_of(implementation), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        torch.jit.save(torch.jit.script(model), file)
        file.seek(0)
        loaded = torch.jit.load(file)
    assert_computes(loaded, model)


@cell("tracers", "copies", "`deepcopy` and `torch.save` of a model")
def check_copies(implementation: Implementation) -> None:
    model, file = model_of(implementation), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for copied in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert type(copied[0]) is implementation.Conv2d
        assert_computes(copied, model)
