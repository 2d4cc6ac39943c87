"""Eager autograd: what a backward pass is asked for, and the modes that it runs in."""

from __future__ import annotations

import contextlib
import threading
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from cells import Implementation, cell
from cells.plain import (
    PARAMS,
    assert_raises,
    assert_same,
    conv2d,
    gradients_of,
    leaves_of,
    loss_of,
    operands,
)

GROUP, MODES = "autograd", "modes"


def differentiate(loss: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Fresh leaves, and the loss's gradients in them."""
    leaves = leaves_of(*operands())
    return leaves, torch.autograd.grad(loss(*leaves), leaves)


@cell(GROUP, "double backward", "`create_graph=True`, and the gradient of the gradients")
def check_double_backward(implementation: Implementation) -> None:
    def second(conv: Any) -> Any:
        leaves = leaves_of(*operands())
        first = torch.autograd.grad(loss_of(conv)(*leaves), leaves, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), leaves)

    assert_same(second(implementation.conv2d), second(conv2d))


@cell(GROUP, "backward twice", "with `retain_graph=True` gradients add up")
def check_backward_twice(implementation: Implementation) -> None:
    leaves = leaves_of(*operands())
    loss = loss_of(implementation.conv2d)(*leaves)
    loss.backward(retain_graph=True)
    loss.backward()
    assert_same([leaf.grad for leaf in leaves], [2 * g for g in gradients_of(conv2d, *leaves)])


@cell(GROUP, "backward twice, graph freed", "refused without `retain_graph`")
def check_backward_of_a_freed_graph(implementation: Implementation) -> None:
    leaves = leaves_of(*operands())
    output = implementation.conv2d(*leaves, **PARAMS).sum()
    output.backward()
    assert_raises(RuntimeError, "backward through the graph a second time", output.backward)


@cell(GROUP, "in-place change", "of a saved input or weight before backward: refused")
def check_in_place_change(implementation: Implementation) -> None:
    for changed in (0, 1):
        leaves = leaves_of(*operands())
        output = implementation.conv2d(*leaves, **PARAMS).sum()
        with torch.no_grad():
            leaves[changed].add_(1)
        assert_raises(RuntimeError, "modified by an inplace operation", output.backward)


@cell(GROUP, "in-place on the output", "`relu_` of the output, which no gradient needs")
def check_in_place_on_the_output(implementation: Implementation) -> None:
    def loss(conv: Any) -> Any:
        return lambda *leaves: conv(*leaves, **PARAMS).relu_().sum()

    assert_same(differentiate(loss(implementation.conv2d))[1], differentiate(loss(conv2d))[1])


def register_checkpoint(name: str, meaning: str, **arguments: Any) -> None:
    @cell(GROUP, name, meaning)
    def check(implementation: Implementation) -> None:
        calls = []

        def loss(*leaves: Tensor) -> Tensor:
            calls.append(None)
            return loss_of(implementation.conv2d)(*leaves)

        leaves = leaves_of(*operands())
        checkpoint(loss, *leaves, **arguments).backward()
        assert len(calls) == 2  # the second within backward
        assert_same([leaf.grad for leaf in leaves], gradients_of(conv2d, *leaves))


register_checkpoint("checkpointing", "`use_reentrant=False`", use_reentrant=False)
register_checkpoint("checkpointing, reentrant", "`use_reentrant=True`", use_reentrant=True)


@cell(GROUP, "selective checkpointing", "outputs of convolutions are kept, the rest is recomputed")
def check_selective_checkpointing(implementation: Implementation) -> None:
    ops: list[Any] = []

    def policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        if "conv" not in str(op):
            return CheckpointPolicy.PREFER_RECOMPUTE
        ops.append(context.is_recompute)
        return CheckpointPolicy.MUST_SAVE

    leaves = leaves_of(*operands())
    loss = checkpoint(
        loss_of(implementation.conv2d),
        *leaves,
        use_reentrant=False,
        context_fn=lambda: create_selective_checkpoint_contexts(policy),
    )
    loss.backward()
    assert ops
    assert_same([leaf.grad for leaf in leaves], gradients_of(conv2d, *leaves))


@cell(GROUP, "saved-tensor hooks", "operands are packed as lists of numbers and unpacked")
def check_saved_tensor_hooks(implementation: Implementation) -> None:
    packed: list[Any] = []

    def pack(tensor: Tensor) -> Any:
        packed.append(tensor.tolist())
        return packed[-1]

    leaves = leaves_of(*operands())
    with saved_tensors_hooks(pack, lambda numbers: torch.tensor(numbers, dtype=torch.float64)):
        loss = loss_of(implementation.conv2d)(*leaves)
    assert leaves[0].tolist() in packed
    assert leaves[1].tolist() in packed
    assert_same(torch.autograd.grad(loss, leaves), gradients_of(conv2d, *leaves))


@cell(GROUP, "save_on_cpu", "saved tensors are moved and fetched")
def check_save_on_cpu(implementation: Implementation) -> None:
    leaves = leaves_of(*operands())
    with save_on_cpu():
        loss = loss_of(implementation.conv2d)(*leaves)
    assert_same(torch.autograd.grad(loss, leaves), gradients_of(conv2d, *leaves))


@cell(GROUP, "hooks", "of tensors, of accumulated gradients, of the graph's node")
def check_hooks(implementation: Implementation) -> None:
    seen: list[str] = []
    leaves = leaves_of(*operands())
    leaves[0].register_hook(lambda gradient: 2 * gradient)
    leaves[1].register_post_accumulate_grad_hook(lambda leaf: seen.append("accumulated"))
    output = implementation.conv2d(*leaves, **PARAMS)
    output.grad_fn.register_prehook(lambda gradients: seen.append("before"))
    output.grad_fn.register_hook(lambda inputs, outputs: seen.append("after"))
    (output**3).sum().backward()
    assert sorted(seen) == ["accumulated", "after", "before"]
    first, second, third = gradients_of(conv2d, *leaves)
    assert_same([leaf.grad for leaf in leaves], [2 * first, second, third])


@cell(GROUP, "anomaly mode", "a NaN made in the backward is refused, with the forward's line")
def check_anomaly_mode(implementation: Implementation) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        refuse_nan(implementation)
    assert any("its gradient is inf * 0" in str(warning.message) for warning in said)


def refuse_nan(implementation: Implementation) -> None:
    with torch.autograd.detect_anomaly():
        input = torch.zeros(1, 1, 2, 2, requires_grad=True)
        weight = torch.full((1, 1, 1, 1), torch.inf)
        output = implementation.conv2d(input, weight)  # its gradient is inf * 0
        assert_raises(RuntimeError, "nan values", output.backward, torch.zeros(1, 1, 2, 2))


@cell(GROUP, "threads", "four threads train one layer at a time; its gradients add up")
def check_threads(implementation: Implementation) -> None:
    _, weight, bias = leaves_of(*operands())
    images = operands(4)[0]
    barrier = threading.Barrier(4)

    def step(image: Tensor) -> None:
        for _ in range(5):
            barrier.wait()
            loss_of(implementation.conv2d)(image, weight, bias).backward()

    threads = [threading.Thread(target=step, args=(image,)) for image in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    each = [gradients_of(conv2d, image, weight, bias)[1:] for image in images]
    expected = [5 * sum(gradients) for gradients in zip(*each, strict=True)]
    assert_same([weight.grad, bias.grad], expected)


@cell(GROUP, "weight sharing", "one weight in two places: its gradient is the sum")
def check_weight_sharing(implementation: Implementation) -> None:
    def loss(conv: Any) -> Any:
        def run(input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            first = conv(input, weight, bias, padding=(1, 1), groups=2)
            return (conv(first[:, :4], weight, bias, groups=2) ** 3).sum()

        return run

    assert_same(differentiate(loss(implementation.conv2d))[1], differentiate(loss(conv2d))[1])


@cell(MODES, "autocast", "bfloat16 output, float32 gradients, as if the operands had been cast")
def check_autocast(implementation: Implementation) -> None:
    tensors = [t.float() for t in operands()]
    leaves = leaves_of(*tensors)
    with torch.autocast("cpu", torch.bfloat16):
        output = implementation.conv2d(*leaves, **PARAMS)
    assert output.dtype == torch.bfloat16
    gradients = torch.autograd.grad(output.float().sum(), leaves)
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    rounded = leaves_of(*(t.bfloat16().double() for t in tensors))
    expected = conv2d(*rounded, **PARAMS)
    assert_same(output.double(), expected, rtol=2**-7)
    assert_same(
        [gradient.double() for gradient in gradients],
        torch.autograd.grad(expected.sum(), rounded),
        rtol=2**-7,
    )


@contextlib.contextmanager
def deterministic_algorithms() -> Any:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@cell(MODES, "deterministic algorithms", "accepted; twice the same bits")
def check_deterministic(implementation: Implementation) -> None:
    with deterministic_algorithms():
        leaves, first = differentiate(loss_of(implementation.conv2d))
        _, second = differentiate(loss_of(implementation.conv2d))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert_same(first, gradients_of(conv2d, *leaves))


@cell(MODES, "no_grad", "nothing is recorded, though parameters want gradients")
def check_no_grad(implementation: Implementation) -> None:
    leaves = leaves_of(*operands())
    with torch.no_grad():
        output = implementation.conv2d(*leaves, **PARAMS)
    assert not output.requires_grad
    assert_same(output, conv2d(*leaves, **PARAMS))


@cell(MODES, "inference mode", "the output is an inference tensor; backward through it is refused")
def check_inference_mode(implementation: Implementation) -> None:
    leaves = leaves_of(*operands())
    with torch.inference_mode():
        output = implementation.conv2d(*leaves, **PARAMS)
    assert output.is_inference()
    assert_same(output.clone(), conv2d(*leaves, **PARAMS))
    weight = torch.randn(2, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    message = "Inference tensors cannot be saved for backward"
    assert_raises(RuntimeError, message, implementation.conv2d, output, weight)


@cell(MODES, "meta device", "shapes without data, of gradients too")
def check_meta_device(implementation: Implementation) -> None:
    leaves = leaves_of(*(t.to("meta") for t in operands()))
    gradients = torch.autograd.grad(loss_of(implementation.conv2d)(*leaves), leaves)
    assert [g.shape for g in gradients] == [leaf.shape for leaf in leaves]
    assert all(gradient.is_meta for gradient in gradients)
