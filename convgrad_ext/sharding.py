"""The three passes on DTensors, tensors of which each process of a mesh holds a part.

A pass can be split along four axes of its loops:

======  ========  ========  ========  ===================================================
axis    input     weight    output    a process has
======  ========  ========  ========  ===================================================
N       Shard(0)  whole     Shard(0)  some of the images
C_out   whole     Shard(0)  Shard(1)  some of the filters
C_in    Shard(1)  Shard(1)  whole     some of the channels that a filter sees
groups  Shard(1)  Shard(0)  Shard(1)  some of the groups, with their channels and filters
======  ========  ========  ========  ===================================================

The table is valid for the gradients too. An operand that is whole is ``Replicate()``. A result that
is whole is ``Partial("sum")``, because it sums over the axis that is split. DTensor redistributes
operands with other placements to the row that costs least. Height and width are never split,
because a process would need pixels that its neighbours have.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from convgrad_ext.autograd import ops

AXES: Mapping[str, Mapping[str, int]] = {  # axis -> the tensors that have it -> their dimension
    "N": {"input": 0, "output": 0},
    "C_out": {"weight": 0, "output": 1, "bias": 0},
    "C_in": {"input": 1, "weight": 1},
    "groups": {"input": 1, "weight": 0, "output": 1, "bias": 0},
}


@dataclass(frozen=True)
class Pass:
    """The arguments of an operator by their positions; a gradient has the name of its tensor."""

    result: str
    operands: Mapping[str, int]
    result_size: int | None = None
    groups: int = 6
    grad_strides: int = 7

    @property
    def first_static(self) -> int:
        """The first argument that is no tensor: DTensor's cache distinguishes calls by the rest."""
        return len(self.operands) if self.result_size is None else self.result_size


PASSES = {
    ops.conv2d.default: Pass("output", {"input": 0, "weight": 1, "bias": 2}),
    ops.conv2d_input.default: Pass("input", {"weight": 1, "output": 2}, result_size=0),
    ops.conv2d_weight.default: Pass("weight", {"input": 0, "output": 2}, result_size=1),
}

registration_tried = False


def register_where_loaded() -> None:
    """Registers the operators with DTensor once the program has loaded DTensor.

    The functions of this package call it. Loading DTensor takes longer than all of this package.
    """
    global registration_tried
    if registration_tried or "torch.distributed.tensor" not in sys.modules:
        return
    registration_tried = True
    with suppress(ImportError, AttributeError):  # those that register() documents
        register()


# torch.compile calls it while it traces, and traces no part of it. That is the effect of
# torch.compiler.assume_constant_result, which would import the whole compiler first.
register_where_loaded._dynamo_marked_constant = True  # type: ignore[attr-defined]


def register() -> None:
    """Registers the operators with DTensor.

    The functions and modules of this package do so themselves when they get a DTensor. A program
    needs it only if it passes DTensors to ``torch.ops.convgrad_ext`` before it has called any of
    those with one.

    Raises:
        ImportError, AttributeError: if this PyTorch has no DTensor, or not that of 2.10 to 2.13.
            Nothing is registered then, and DTensor refuses the operators: "Operator
            convgrad_ext.conv2d.default does not have a sharding strategy registered."

    Example:
        >>> from convgrad_ext import sharding
        >>> sharding.register()

    Source: https://docs.pytorch.org/docs/stable/distributed.tensor.html
    """
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor._op_schema import RuntimeSchemaInfo

    dispatcher = DTensor._op_dispatcher
    propagator, handlers = dispatcher.sharding_propagator, dispatcher._custom_op_handlers
    for op, arguments in PASSES.items():
        info = RuntimeSchemaInfo(arguments.first_static)
        propagator.register_op_strategy(op, strategies, info)
        handlers[op] = partial(run_on_parts, dispatcher)


def strategies(call: Any) -> Any:
    """The placements that DTensor may choose from: all whole, and the rows of the table."""
    from torch.distributed.tensor._ops.utils import expand_to_full_mesh_op_strategy

    mesh, arguments = call.get_mesh_from_args(), PASSES[call.op]
    present = tuple(arguments.operands)[: len(call.args_strategy)]  # bias, the last, may be None
    axes = splittable_axes(call.args_schema[arguments.groups], mesh.size())
    rows = [placements(axis, arguments.result, present) for axis in axes]
    return expand_to_full_mesh_op_strategy(mesh, call, rows)


def splittable_axes(groups: int, processes: int) -> tuple[str, ...]:
    """The axes along which processes may share the work; "" is for none.

    Part of a group's filters would need the channels of that whole group.
    """
    if groups == 1:
        return "", "N", "C_out", "C_in"
    return ("", "N", "groups") if groups % processes == 0 else ("", "N")


def placements(axis: str, result: str, operands: tuple[str, ...]) -> list[Any]:
    """A row of the table: the placement of the result, then those of the operands."""
    from torch.distributed.tensor import Partial, Replicate, Shard

    dims = AXES.get(axis, {})
    summed = axis != "" and result not in dims
    return [
        Partial("sum") if summed else Shard(dims[result]) if result in dims else Replicate(),
        *(Shard(dims[name]) if name in dims else Replicate() for name in operands),
    ]


def run_on_parts(dispatcher: Any, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The operator on the parts of this process, once they have the placements that were chosen."""
    call = dispatcher.unwrap_to_op_info(op, args, kwargs)
    dispatcher.sharding_propagator.propagate(call)
    chosen, spec = call.output_sharding, call.output_sharding.output_spec
    if spec.mesh.get_coordinate() is None:  # this process is outside the mesh
        return dispatcher.wrap(torch.empty(0, dtype=spec.tensor_meta.dtype), spec)
    if chosen.needs_redistribute:
        dispatcher.redistribute_local_args(
            call, chosen.redistribute_schema, chosen.use_val_from_redistribute_schema
        )
    return dispatcher.wrap(part_of_result(op, args, call.local_args, spec), spec)


def part_of_result(op: Any, wholes: tuple[Any, ...], parts: tuple[Any, ...], spec: Any) -> Tensor:
    """The part of the result that this process computes, for the placements `spec`."""
    known, arguments = PASSES[op], list(parts)
    operands, result_size = known.operands, known.result_size
    groups = arguments[known.groups] = groups_of_part(known, wholes, parts)
    tensors = {name: parts[position] for name, position in operands.items()}
    size = (*channels_of_part(known.result, tensors, groups), *spec.shape[2:])
    if result_size is not None:
        arguments[result_size] = size
        arguments[known.grad_strides :] = [dense_strides(size, spec.tensor_meta.stride)]
    if tensors.get("bias") is not None and not adds_bias(spec):
        arguments[operands["bias"]] = None
    if any(has_nothing(wholes[position], parts[position]) for position in operands.values()):
        return next(iter(tensors.values())).new_zeros(size)
    return op(*arguments)


def groups_of_part(arguments: Pass, wholes: tuple[Any, ...], parts: tuple[Any, ...]) -> int:
    """With several groups, channels are split into whole groups or not at all."""
    groups: int = wholes[arguments.groups]
    image = arguments.operands["output" if "output" in arguments.operands else "input"]
    return groups if groups == 1 else groups * parts[image].shape[1] // wholes[image].shape[1]


def channels_of_part(result: str, parts: Mapping[str, Tensor], groups: int) -> tuple[int, int]:
    """The first two extents of a result, images and channels or filters and channels."""
    if result == "output":
        return parts["input"].shape[0], parts["weight"].shape[0]
    if result == "input":
        return parts["output"].shape[0], groups * parts["weight"].shape[1]
    return parts["output"].shape[1], parts["input"].shape[1] // groups


def dense_strides(size: tuple[int, ...], whole: tuple[int, ...]) -> list[int]:
    """The strides of a part without gaps, with the dimensions in the order of the whole."""
    strides, step = [0] * len(size), 1
    for dim in sorted(range(len(size)), key=lambda dim: (whole[dim], -dim)):  # innermost first
        strides[dim], step = step, step * max(size[dim], 1)
    return strides


def adds_bias(spec: Any) -> bool:
    """Of the processes whose outputs are summed, the first adds the bias."""
    along = zip(spec.placements, spec.mesh.get_coordinate(), strict=True)
    return all(index == 0 for placement, index in along if placement.is_partial())


def has_nothing(whole: Any, part: Any) -> bool:
    """Whether this process has no element of an operand: 5 channels make 2, 2, 1 and 0 for four."""
    return part is not None and part.numel() == 0 and whole.numel() > 0
