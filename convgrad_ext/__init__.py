"""A convolution whose forward and backward are loops that one can read.

``conv2d`` and ``Conv2d`` take the place of ``torch.nn.functional.conv2d`` and ``torch.nn.Conv2d``.
"""

from importlib.metadata import version

import torch

import convgrad_ext.flops  # noqa: F401  FlopCounterMode's formulas of the operators
from convgrad_ext.autograd import Conv2dFunction, Conv2dInputFunction, Conv2dWeightFunction
from convgrad_ext.convert import convert, revert
from convgrad_ext.functional import conv2d, conv2d_input, conv2d_weight
from convgrad_ext.kernels import available_kernels, use_kernel
from convgrad_ext.modules import Conv2d, LazyConv2d
from convgrad_ext.plans import Plan, explain_plan, plans
from convgrad_ext.replacing import replacing_conv2d
from convgrad_ext.winograd import allow_winograd, winograd_allowed

if torch.version.cuda is not None:
    from convgrad_ext import triton

    triton.register("CUDA")

__version__ = version("convgrad_ext")

__all__ = [
    "Conv2d",
    "Conv2dFunction",
    "Conv2dInputFunction",
    "Conv2dWeightFunction",
    "LazyConv2d",
    "Plan",
    "allow_winograd",
    "available_kernels",
    "conv2d",
    "conv2d_input",
    "conv2d_weight",
    "convert",
    "explain_plan",
    "plans",
    "replacing_conv2d",
    "revert",
    "use_kernel",
    "winograd_allowed",
]
