"""Other libraries as baselines: ONNX Runtime for the forward, JAX for every pass."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import BadInputError, machine
from benchmarks.layers import Layer, Operands, make_operands
from benchmarks.sides import Job, Results, Side

# The packages of each, none of which the project needs otherwise.
PEERS = {"onnxruntime": ("onnx", "onnxruntime"), "jax": ("jax",)}
LOOPS = {"onnxruntime": "MLAS", "jax": "XLA"}
THREADS = Path("/proc/self/task")


def check_installed(peer: str) -> None:
    for package in PEERS[peer]:
        try:
            importlib.import_module(package)
        except ImportError:
            raise BadInputError(
                f"the peer {peer} needs the package {package}: pip install {package}"
            ) from None


class PeerJob(Job):
    """One side of one row that another library computes."""

    def side(self, operands: Operands | None = None) -> Side:
        operands = operands or make_operands(self.layer, self.form)
        return {"onnxruntime": onnxruntime_side, "jax": jax_side}[self.name](self, operands)

    def path(self, operands: Operands) -> str:
        return LOOPS[self.name]


def onnxruntime_side(job: Job, x: Operands) -> Side:
    """A session of one node. Its weight is a constant, which it packs once, before it is timed."""
    if job.pass_name != "forward" or job.form.dtype != torch.float32:
        raise RuntimeError("it has the forward in float32 alone")
    if os.environ.get("CONVGRAD_ISA") == "avx2" and machine.has_flag("avx512f"):
        raise RuntimeError("it cannot be held to AVX2")
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    session = onnxruntime.InferenceSession(
        onnx_model(x), options, providers=["CPUExecutionProvider"]
    )
    feeds = {"input": x.input.contiguous().numpy()}
    return Side(
        lambda: session.run(None, feeds),
        tensors=lambda arrays: tuple(map(torch.from_numpy, arrays)),
    )


def onnx_model(x: Operands) -> bytes:
    onnx = importlib.import_module("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    stride, padding, dilation, groups = x.layer.arguments
    node = helper.make_node(
        "Conv", ["input", "weight"], ["output"],
        strides=stride, pads=padding * 2, dilations=dilation, group=groups,
    )  # fmt: skip
    weight = onnx.numpy_helper.from_array(x.weight.contiguous().numpy(), "weight")
    input = helper.make_tensor_value_info("input", number, x.layer.input_size)
    output = helper.make_tensor_value_info("output", number, x.layer.output_size)
    graph = helper.make_graph([node], "convolution", [input], [output], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def jax_side(job: Job, x: Operands) -> Side:
    """The pass, compiled; what it is called with stays in the memory format of the operands."""
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    with_channels_last = job.form.memory_format == torch.channels_last
    passes = JaxPasses(x.layer, with_channels_last)
    arrays = {
        name: jax.dlpack.from_dlpack(in_order(getattr(x, name), with_channels_last))
        for name in ("input", "weight", "bias", "grad_output", "direction")
    }
    compiled = jax.jit(getattr(passes, job.pass_name))
    return Side(
        lambda: jax.block_until_ready(compiled(**arrays)),
        partial(confined, job.threads),
        partial(as_tensors, with_channels_last),
    )


def in_order(x: Tensor, with_channels_last: bool) -> Tensor:
    """A contiguous tensor of the same memory: JAX takes no strides."""
    return x.movedim(1, -1).contiguous() if with_channels_last and x.dim() == 4 else x.contiguous()


def as_tensors(with_channels_last: bool, arrays: Any) -> Results:
    tensors = [torch.utils.dlpack.from_dlpack(array) for array in arrays]
    if with_channels_last:  # the last three axes, for per_sample has one more in front
        return tuple(x.movedim(-1, -3) if x.dim() >= 4 else x for x in tensors)
    return tuple(tensors)


class JaxPasses:
    """Each pass as a function of all operands; XLA drops what a pass does not need."""

    def __init__(self, layer: Layer, with_channels_last: bool) -> None:
        self.jax = importlib.import_module("jax")
        self.layer = layer
        self.axes = ("NHWC", "OHWI", "NHWC") if with_channels_last else ("NCHW", "OIHW", "NCHW")
        self.bias_size = (-1,) if with_channels_last else (-1, 1, 1)

    def conv2d(self, input: Any, weight: Any, bias: Any = 0.0) -> Any:
        stride, padding, dilation, groups = self.layer.arguments
        output = self.jax.lax.conv_general_dilated(
            input, weight, stride, [(extent, extent) for extent in padding],
            rhs_dilation=dilation, dimension_numbers=self.axes, feature_group_count=groups,
        )  # fmt: skip
        return output + (bias.reshape(self.bias_size) if hasattr(bias, "reshape") else 0)

    def gradients(self, function: Callable[..., Any], *at: Any) -> Callable[[Any], Any]:
        return self.jax.vjp(function, *at)[1]

    def forward(self, input: Any, weight: Any, **others: Any) -> Any:
        return (self.conv2d(input, weight),)

    def grad_input(self, input: Any, weight: Any, grad_output: Any, **others: Any) -> Any:
        return self.gradients(lambda x: self.conv2d(x, weight), input)(grad_output)

    def grad_weight(self, input: Any, weight: Any, grad_output: Any, **others: Any) -> Any:
        return self.gradients(lambda w: self.conv2d(input, w), weight)(grad_output)

    def train_step(self, input: Any, weight: Any, bias: Any, grad_output: Any, **_: Any) -> Any:
        return self.gradients(self.conv2d, input, weight, bias)(grad_output)

    def double_backward(
        self, input: Any, weight: Any, grad_output: Any, direction: Any, **others: Any
    ) -> Any:
        def penalised(weight: Any, grad_output: Any) -> Any:
            return self.grad_input(input, weight, grad_output)[0]

        return self.gradients(penalised, weight, grad_output)(direction)

    def per_sample(self, input: Any, weight: Any, bias: Any, grad_output: Any, **_: Any) -> Any:
        def loss(weight: Any, bias: Any, image: Any, grad_output: Any) -> Any:
            return (self.conv2d(image[None], weight, bias)[0] * grad_output).sum()

        gradients = self.jax.vmap(self.jax.grad(loss, (0, 1)), (None, None, 0, 0))
        return gradients(weight, bias, input, grad_output)


@contextmanager
def confined(threads: int) -> Iterator[None]:
    """Restricts the process to `threads` processors, because XLA starts one thread for each."""
    before = os.sched_getaffinity(0)
    confine(set(sorted(before)[:threads]))
    try:
        yield
    finally:
        confine(before)


def confine(processors: set[int]) -> None:
    for thread in THREADS.iterdir():
        os.sched_setaffinity(int(thread.name), processors)
