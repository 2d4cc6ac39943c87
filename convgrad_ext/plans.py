"""The path, the blocks and the scratch of each pass of a convolution, and the reason for the path.

The path is chosen before anything is packed: csrc/cpu/plan.h. It depends on the shape, the dtype,
the memory formats, the kernel, the cache sizes and on whether Winograd is allowed, but not on the
number of threads. The images and channels of an item may follow that, which changes no digit.
``CONVGRAD_LOG=plan`` prints the path of every pass that runs to stderr.
``CONVGRAD_CACHE=48K,2M`` fixes the sizes of L1d and L2 that blocks are cut for, which are those of
the processor otherwise: the digits of grad_weight, and of every pass of Winograd's form, can depend
on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from convgrad_ext import _C, triton
from convgrad_ext.arguments import (
    IntOrPair,
    PaddingLike,
    as_parameters,
    check_image_rank,
    check_tensor,
    check_weight_rank,
)

_C.cache_sizes()  # so that a bad CONVGRAD_CACHE is refused by the import

PASSES = ("forward", "grad_input", "grad_weight")


@dataclass(frozen=True)
class Plan:
    """How one pass runs; of grad_input, how the phases run that have the same plan.

    Attributes:
        pass_name: ``'forward'``, ``'grad_input'`` or ``'grad_weight'``.
        path: ``'direct'``, ``'depthwise'``, ``'pixelwise'``, ``'rowwise'`` or ``'winograd'``, whose
            loops are in the folders of csrc/cpu of these names; ``'zeros'`` where no tap meets a
            pixel; or ``'reference'``. On CUDA, ``'product'`` or ``'depthwise'``.
        reason: why this path, in words.
        phases: how many phases of grad_input have this plan; 1 for the other passes.
        blocking: the parts of the blocking by name, such as the rows and vectors of a tile.
        packed_bytes: the memory of the packed weight or, for grad_weight, of the sums of all items
            (on CUDA, of all splits).
        scratch_bytes: the memory of each thread.
        padded_share: of all pairs of a destination pixel and a tap, those that meet padding.

    Example:
        >>> import torch, convgrad_ext
        >>> forward = convgrad_ext.plans(torch.empty(1, 8, 9, 9), torch.empty(8, 8, 3, 3))[0]
        >>> forward.pass_name, forward.path, forward.phases
        ('forward', 'direct', 1)

    Source: ``PlanReport`` in csrc/plan_report.h.
    """

    pass_name: str
    path: str
    reason: str
    phases: int
    blocking: dict[str, str]
    packed_bytes: int
    scratch_bytes: int
    padded_share: float

    def __str__(self) -> str:
        phases = f", {self.phases} phases" if self.phases > 1 else ""
        lines = [
            f"{self.pass_name}{phases}: {self.path}",
            f"  reason: {self.reason}",
            *(f"  {name}: {value}" for name, value in self.blocking.items()),
            f"  packed: {kibibytes(self.packed_bytes)}",
            f"  scratch of a thread: {kibibytes(self.scratch_bytes)}",
            f"  taps that meet padding: {self.padded_share:.1%}",
        ]
        return "\n".join(lines)


def kibibytes(size: int) -> str:
    return f"{-(-size // 1024)} KiB"


def plans(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: PaddingLike = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> tuple[Plan, ...]:
    """The plans of the three passes of :func:`conv2d` for the same arguments; nothing is computed.

    Args:
        input: images of shape (N, C_in, H_in, W_in) or (C_in, H_in, W_in). Shape, strides, dtype
            and device count; the elements are not read.
        weight: filters of shape (C_out, C_in // groups, K_h, K_w).
        bias: changes no plan; it is here so that a call of :func:`conv2d` can be turned into one of
            this function.
        stride, padding, dilation, groups: as for :func:`conv2d`.

    Returns:
        One :class:`Plan` for forward and one for grad_weight; for grad_input one for each group of
        phases that have the same. None for tensors without elements.

    Raises:
        RuntimeError, TypeError, ValueError, NotImplementedError: as :func:`conv2d`.

    Example:
        >>> import torch, convgrad_ext
        >>> image, weight = torch.empty(1, 64, 56, 56), torch.empty(64, 64, 1, 1)
        >>> [plan.path for plan in convgrad_ext.plans(image, weight)]
        ['pixelwise', 'pixelwise', 'direct']

    Source: csrc/cpu/plan.h.
    """
    del bias
    check_tensor("input", input)
    check_tensor("weight", weight)
    check_weight_rank(weight.shape)
    check_image_rank(input.shape)
    params = as_parameters(input.shape, weight.shape, stride, padding, dilation, groups)
    batch = input.unsqueeze(0) if input.dim() == 3 else input
    if input.is_cuda:
        return on_cuda(batch, weight, *params)
    return tuple(
        Plan(pass_name, **report)
        for pass_name in PASSES
        for report in _C.plan(pass_name, batch, weight, *params)
    )


def on_cuda(input: Tensor, weight: Tensor, *params: Any) -> tuple[Plan, ...]:
    output = _C.empty_output(input, weight, None, *params)
    if 0 in (input.numel(), weight.numel(), output.numel()):
        return ()
    device = triton.imported("plans")
    found = device.plans_of(params, input, weight, output)
    return tuple(Plan(name, **fields) for name, fields in found.items())


def explain_plan(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: PaddingLike = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> None:
    """Prints the path of each pass, its blocks, its memory, its padded taps and the reason.

    Args:
        input, weight, bias, stride, padding, dilation, groups: as for :func:`plans`, which returns
            the same as values.

    Raises:
        RuntimeError, TypeError, ValueError, NotImplementedError: as :func:`conv2d`.

    Example:
        >>> import torch, convgrad_ext
        >>> image, weight = torch.empty(1, 1, 4, 4, dtype=torch.int32), torch.ones(1, 1, 3, 3)
        >>> convgrad_ext.explain_plan(image, weight.int(), padding=1)  # doctest: +ELLIPSIS
        forward: reference
          reason: no other kernel takes this dtype
          packed: 0 KiB
          scratch of a thread: 0 KiB
          taps that meet padding: 30.6%
        grad_input: reference
        ...

    Source: csrc/cpu/plan.h.
    """
    for plan in plans(input, weight, bias, stride, padding, dilation, groups):
        print(plan)
