"""Export to ONNX: each convolution becomes one standard ``Conv``.

``torch.onnx.export`` of a model needs no call of this module: ``convgrad_ext.functional`` loads
it when an export traces a convolution. A ``torch.export.ExportedProgram`` and a scripted module are
exported without running the model again. They need it beforehand:

- the program is rewritten first, with :func:`decompositions`;
- for a scripted module, ``import convgrad_ext.onnx`` registers the translation of its operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.onnx import (  # type: ignore[attr-defined]
    register_custom_op_symbolic,
    symbolic_helper,
)

from convgrad_ext.arguments import Padding, Pair
from convgrad_ext.autograd import ops

OLDEST_OPSET = 9  # of the TorchScript exporter


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Tensor:
    """The operator as PyTorch's own ``conv2d``, which PyTorch translates to ONNX.

    Sides that differ take a ``Pad`` before the ``Conv``; the exporter's optimizer fuses the two.
    """
    top, bottom, left, right = padding
    sides_agree = all(type(p) is int for p in padding) and (top, left) == (bottom, right)
    if not sides_agree:
        input = F.pad(input, (left, right, top, bottom))
    return F.conv2d(
        input, weight, bias, stride, (top, left) if sides_agree else 0, dilation, groups
    )


def decompositions() -> dict[Any, Callable[..., Tensor]]:
    """The table with which ``run_decompositions`` rewrites a program in operators that ONNX has.

    Returns:
        The operator of :func:`convgrad_ext.conv2d` with its form in ``torch.nn.functional.conv2d``.

    Example:
        >>> import convgrad_ext.onnx  # docs/tools.md exports a program with it
        >>> list(convgrad_ext.onnx.decompositions())
        [<OpOverload(op='convgrad_ext.conv2d', overload='default')>]

    Source: https://docs.pytorch.org/docs/stable/export.html
    """
    return {ops.conv2d.default: conv2d}


@symbolic_helper.parse_args("v", "v", "v", "is", "is", "is", "i")
def conv_node(
    graph: Any,
    input: Any,
    weight: Any,
    bias: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Any:
    """The ``Conv`` of the TorchScript exporter; its pads are (top, left, bottom, right)."""
    top, bottom, left, right = padding
    operands = [input, weight] if symbolic_helper._is_none(bias) else [input, weight, bias]
    return graph.op(
        "Conv",
        *operands,
        strides_i=stride,
        pads_i=[top, left, bottom, right],
        dilations_i=dilation,
        group_i=groups,
    )


register_custom_op_symbolic("convgrad_ext::conv2d", conv_node, OLDEST_OPSET)
