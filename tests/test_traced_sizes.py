"""Graphs are valid for images of every size: no form of padding makes sizes into numbers.

The rows are the forms of padding and the padding modes; the columns are torch.compile,
torch.export, torch.fx and make_fx. Expected values come from torch.nn.functional.conv2d, run
eagerly on an image that torch.nn.functional.pad has padded.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim, ExportedProgram, export
from torch.fx.experimental.proxy_tensor import make_fx

import convgrad_ext
from convgrad_ext.padding import pad_circular

FORMS = [
    pytest.param({"padding": 1}, id="int"),
    pytest.param({"padding": (2, 1), "stride": 2}, id="pair"),
    pytest.param({"padding": ((2, 0), (1, 2)), "dilation": 2}, id="pair_of_pairs"),
    pytest.param({"padding": "valid", "stride": (1, 2)}, id="valid"),
    pytest.param({"padding": "same"}, id="same"),
    pytest.param({"padding": "same", "kernel_size": (4, 2), "dilation": 2}, id="same_dilated"),
    pytest.param({"padding": "same", "stride": 2}, id="same_strided"),
    pytest.param({"padding": "same", "stride": (1, 3), "dilation": (1, 2)}, id="same_one_axis"),
    pytest.param({"padding": "same", "stride": 3, "kernel_size": 2}, id="same_stride_exceeds"),
    pytest.param({"padding": "same", "stride": 2, "kernel_size": 1}, id="same_pointwise"),
]
SAME_STRIDED = [form for form in FORMS if form.id.startswith("same_") and "dilated" not in form.id]
MODES = ["zeros", "circular", "reflect", "replicate"]
# Each remainder of 2 and of 3 in both axes. The first is the size that graphs are made with; no two
# of its extents are equal, because a compiler would make them one symbol.
SIZES = [(4, 2, 9, 8), (5, 2, 10, 13), (3, 2, 12, 11), (6, 2, 7, 14)]
# From 7 on every output has two pixels or more: an extent of 1 is another case to torch.
FREE = {0: Dim("N"), 2: Dim("H", min=7), 3: Dim("W", min=7)}
AUTO = dict.fromkeys(FREE, Dim.AUTO)

every_form = pytest.mark.parametrize("form", FORMS)
every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def built(form: dict[str, Any], mode: str = "zeros") -> convgrad_ext.Conv2d:
    torch.manual_seed(0)
    arguments = {"kernel_size": 3, **form, "padding_mode": mode, "dtype": torch.float64}
    return convgrad_ext.Conv2d(2, 3, **arguments)


def images(size: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, dtype=torch.float64, generator=generator)


def same_sides(extent: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """The pixels that ceil(extent / stride) outputs read and the image does not have."""
    outputs = -(-extent // stride)
    missing = max((outputs - 1) * stride + dilation * (kernel - 1) + 1 - extent, 0)
    return missing // 2, missing - missing // 2


def sides_of(layer: nn.Conv2d, image: Tensor) -> tuple[int, ...]:
    """(left, right, top, bottom)."""
    padding: Any = layer.padding
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        axes = (image.shape[2:], layer.kernel_size, layer.stride, layer.dilation)
        padding = tuple(map(same_sides, *axes))
    vertical, horizontal = (p if isinstance(p, tuple) else (p, p) for p in padding)
    return (*horizontal, *vertical)


def expected_of(layer: nn.Conv2d, image: Tensor) -> Tensor:
    mode = layer.padding_mode.replace("zeros", "constant")
    padded = F.pad(image, sides_of(layer, image), mode=mode)
    return F.conv2d(padded, layer.weight, layer.bias, layer.stride, 0, layer.dilation)


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def assert_computes(
    traced: Callable[[Tensor], Tensor], layer: nn.Conv2d, sizes: list[tuple[int, ...]] = SIZES
) -> None:
    """The values of F.conv2d for images of each size."""
    for size in sizes:
        assert_equal(traced(images(size)), expected_of(layer, images(size)))


def assert_differentiates(traced: Callable[[Tensor], Tensor], layer: nn.Conv2d) -> None:
    """The values and the gradients of F.conv2d for images of every size."""
    for size in SIZES:
        leaves = [images(size).requires_grad_(), *layer.parameters()]
        outputs = traced(leaves[0]), expected_of(layer, leaves[0])
        assert_equal(*outputs)
        actual, expected = (torch.autograd.grad((y**2).sum(), leaves) for y in outputs)
        for a, e in zip(actual, expected, strict=True):
            torch.testing.assert_close(a, e, rtol=1e-11, atol=1e-11)


# torch.compile


@every_mode
@every_form
def test_one_compiled_graph_serves_all_sizes(form: dict[str, Any], mode: str) -> None:
    graphs = CompileCounterWithBackend("eager")
    layer = built(form, mode)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=graphs)
    assert_computes(compiled, layer)
    assert graphs.frame_count == 1


@every_mode
@every_form
def test_compiled_for_each_size(form: dict[str, Any], mode: str) -> None:
    layer = built(form, mode)
    compiled = torch.compile(layer, fullgraph=True, dynamic=False, backend="eager")
    assert_computes(compiled, layer, SIZES[:2])


@every_form
def test_one_compiled_graph_differentiates_all_sizes(form: dict[str, Any]) -> None:
    graphs = CompileCounterWithBackend("aot_eager")
    layer = built(form)
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=graphs)
    assert_differentiates(compiled, layer)
    assert graphs.frame_count == 1


def test_sizes_become_symbols_with_the_second_one() -> None:
    """Without `dynamic`, the compiler makes numbers into symbols when they change."""
    graphs = CompileCounterWithBackend("aot_eager")
    layer = built({"padding": "same", "stride": 2})
    assert_computes(torch.compile(layer, fullgraph=True, backend=graphs), layer)
    assert graphs.frame_count == 2


def test_compiled_to_machine_code() -> None:
    """The default backend writes the arithmetic of the sizes in a language of its own."""
    layer = built({"padding": "same", "stride": (2, 3), "kernel_size": (3, 2)}, "circular")
    assert_differentiates(torch.compile(layer, fullgraph=True, dynamic=True), layer)


@pytest.fixture
def one_symbol_each() -> Iterator[None]:
    """Extents that are equal in the first call do not become one symbol."""
    with torch.fx.experimental._config.patch(use_duck_shape=False):
        yield


@pytest.mark.usefixtures("one_symbol_each")
@pytest.mark.parametrize("stride", [1, 2], ids=["stride_1", "stride_2"])
def test_kernel_sizes_are_symbols_too(stride: int) -> None:
    """Where the weight is an argument, one graph takes kernels of several sizes."""
    graphs = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(convgrad_ext.conv2d, fullgraph=True, dynamic=True, backend=graphs)
    for kernel_size in [(3, 5), (4, 3), (7, 6)]:
        layer = built({"padding": "same", "stride": stride, "kernel_size": kernel_size})
        image, weight = images(SIZES[0]), layer.weight.detach()  # a parameter's size is fixed
        output = compiled(image, weight, layer.bias, stride=stride, padding="same")
        assert_equal(output, expected_of(layer, image))
    assert graphs.frame_count == 1


@pytest.mark.usefixtures("one_symbol_each")
@pytest.mark.parametrize("form", SAME_STRIDED)
def test_compiled_gradients_asked_for_by_name(form: dict[str, Any]) -> None:
    """conv2d_input and conv2d_weight compute the sides of 'same' themselves."""
    layer = built(form)
    params = (layer.stride, layer.padding, layer.dilation)

    def gradients(image: Tensor, weight: Tensor, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        return (
            convgrad_ext.conv2d_input(image.shape, weight, grad_output, *params),
            convgrad_ext.conv2d_weight(image, weight.shape, grad_output, *params),
        )

    graphs = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(gradients, fullgraph=True, dynamic=True, backend=graphs)
    for size in SIZES:
        leaves = [images(size).requires_grad_(), layer.weight]
        output = expected_of(layer, leaves[0])
        grad_output = torch.ones_like(output)
        expected = torch.autograd.grad(output, leaves, grad_output)
        actual = compiled(*(t.detach() for t in (*leaves, grad_output)))
        for a, e in zip(actual, expected, strict=True):
            assert_equal(a, e)
    assert graphs.frame_count == 1


# torch.export


def exported(module: nn.Module, strict: bool, sizes: dict[int, Any] = FREE) -> ExportedProgram:
    """The program of images whose batch, height and width are free, made with the first size."""
    # Strict export refuses a module whose forward is PyTorch's, and a subclass of such a module.
    module = nn.Sequential(module)
    return export(module, (images(SIZES[0]),), dynamic_shapes=(sizes,), strict=strict)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not_strict"])
@every_mode
@every_form
def test_exported_with_free_sizes(form: dict[str, Any], mode: str, strict: bool) -> None:
    layer = built(form, mode)
    assert_computes(exported(layer, strict).module(), layer)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not_strict"])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("form", SAME_STRIDED)
def test_sizes_left_to_export_stay_free(form: dict[str, Any], mode: str, strict: bool) -> None:
    """With Dim.AUTO, export would silently fix or tie a size whose value is read."""
    layer = built(form, mode)
    assert_computes(exported(layer, strict, AUTO).module(), layer)


@pytest.mark.parametrize("form", SAME_STRIDED)
def test_exported_program_is_saved_and_loaded(form: dict[str, Any]) -> None:
    layer, file = built(form), io.BytesIO()
    torch.export.save(exported(layer, strict=False), file)
    file.seek(0)
    assert_computes(torch.export.load(file).module(), layer)


def test_expressions_of_sizes_do_not_grow_out_of_hand() -> None:
    """Each of five layers halves the image, as in the networks that strided 'same' comes from."""
    layers = [built({"padding": "same", "stride": 2, "kernel_size": k}) for k in (3, 5, 3, 1, 3)]
    shrink = nn.Conv2d(3, 2, 1, dtype=torch.float64)
    chain = nn.Sequential(*(nn.Sequential(layer, shrink) for layer in layers))
    free = {2: Dim("H", min=64), 3: Dim("W", min=64)}
    program = export(chain, (images((1, 2, 66, 80)),), dynamic_shapes=(free,), strict=False)
    image = images((1, 2, 97, 200))
    expected = image
    for layer in layers:
        expected = shrink(expected_of(layer, expected))
    actual = program.module()(image)
    assert actual.shape == (1, 2, 4, 7)  # ceil(97 / 32) x ceil(200 / 32)
    assert_equal(actual, expected)


# torch.fx


@every_mode
@every_form
def test_symbolically_traced(form: dict[str, Any], mode: str) -> None:
    """torch.fx runs a module without an image: a size is no number, and has no length either."""
    layer = built(form, mode)
    traced = torch.fx.symbolic_trace(nn.Sequential(layer))
    assert "convgrad_ext.functional.conv2d" in traced.code.replace("_functional_", ".functional.")
    assert_computes(traced, layer)


@pytest.mark.parametrize("form", SAME_STRIDED)
def test_make_fx_with_symbolic_sizes(form: dict[str, Any]) -> None:
    """The tracer below torch.compile, by itself."""
    layer = built(form)

    params = (layer.stride, layer.padding, layer.dilation)
    tensors = [t.detach() for t in layer.parameters()]

    def run(*tensors: Tensor) -> Tensor:
        return convgrad_ext.conv2d(*tensors, *params)

    traced = make_fx(run, tracing_mode="symbolic")(images(SIZES[0]), *tensors)
    assert_computes(lambda image: traced(image, *tensors), layer)


# Circular pixels


@pytest.mark.parametrize(
    "sides",
    [
        pytest.param((1, 2, 3, 0), id="each_side_its_own"),
        pytest.param((0, 0, 0, 0), id="none"),
        pytest.param((5, 5, 4, 4), id="a_whole_image_on_each_side"),
    ],
)
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (3, 4, 5), (0, 3, 4, 5)], ids=str)
def test_pad_circular_is_torchs(size: tuple[int, ...], sides: tuple[int, ...]) -> None:
    image = images(size)
    assert torch.equal(pad_circular(image, sides), F.pad(image, sides, mode="circular"))


@pytest.mark.parametrize("sides", [(6, 0, 0, 0), (0, 6, 0, 0), (0, 0, 5, 0), (0, 0, 0, 5)], ids=str)
def test_pad_circular_wraps_around_once(sides: tuple[int, ...]) -> None:
    """As F.pad, whose message is the first sentence only."""
    message = "Padding value causes wrapping around more than once"
    image = images((2, 3, 4, 5))
    with pytest.raises(RuntimeError, match=message):
        F.pad(image, sides, mode="circular")
    with pytest.raises(RuntimeError, match=rf"{message}: .* of size \[2, 3, 4, 5\] at dimension"):
        pad_circular(image, sides)
