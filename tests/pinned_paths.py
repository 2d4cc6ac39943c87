"""The path of each pass of each common layer, with the reason: tests/test_plan_paths.py holds them.

A line names layers of benchmarks/shapes/ and their paths. Of grad_input under a stride, "3 direct,
1 pixelwise" are the paths of the phases. Where kernels differ, a line is for those that it names.
"""

from __future__ import annotations

from dataclasses import dataclass

KERNELS = ("avx512 float32", "avx512 float64", "avx2 float32", "avx2 float64")
KERNELS += ("baseline float32", "baseline float64")


@dataclass(frozen=True)
class Pinned:
    """Layers of the same paths; `kernels` are an instruction set and a dtype each."""

    reason: str
    layers: str
    forward: str = "direct"
    grad_input: str = "direct"
    grad_weight: str = "direct"
    kernels: tuple[str, ...] = KERNELS

    @property
    def paths(self) -> dict[str, str]:
        return {
            "forward": self.forward,
            "grad_input": self.grad_input,
            "grad_weight": self.grad_weight,
        }


WIDE = ("avx512 float32", "avx512 float64", "avx2 float32")  # more than four lanes

DEPTHWISE = {"forward": "depthwise", "grad_input": "depthwise", "grad_weight": "depthwise"}

DEFAULT = (
    Pinned(
        "3x3 of stride 1: nine taps, and Winograd is not allowed",
        "r50.res2 r50.res3 r50.res4 r50.res5 vgg.1_2 vgg.3_2 vgg.5 cifar.r20 unet sd.320 sd.1280 "
        "b1.res2 b1.res5 b1.small b1.tiny deeplab.aspp rfcn.dil3 resnext@14",
    ),
    Pinned("5x5, 1x7, 4x4 of stride 1: many taps", "alex.2 incv3.5x5 incv3.1x7 gan.d5"),
    Pinned(
        "depthwise, and groups of four channels",
        "mbn.dw@56 mbn.dw@14 effnet.dw5 convnext.dw7@56 convnext.dw7@14 replk.dw31 replk.dw27 "
        "resnext@56",
        **DEPTHWISE,
    ),
    Pinned(
        "depthwise 3x3 of stride 2: four phases",
        "mbn.dw_s2",
        **{**DEPTHWISE, "grad_input": "4 depthwise"},
    ),
    Pinned(
        "one channel of the input, which grad_input sums over twenty filters",
        "mnist",
        **{**DEPTHWISE, "grad_input": "rowwise"},
    ),
    Pinned(
        "1x1: pixels meet one tap on the way there and back; grad_weight has paths of its own",
        "r50.res2_up r50.res3_dn r50.res5_up b1.1x1 shufflenet",
        forward="pixelwise",
        grad_input="pixelwise",
    ),
    Pinned(
        "1x1 of stride 2: three phases of four meet no tap",
        "r50.res4a_1x1s2",
        forward="pixelwise",
        grad_input="1 pixelwise, 3 zeros",
    ),
    Pinned(
        "3x3 of stride 2: 1, 2, 2 and 4 taps in the phases",
        "r50.res3a_s2 r50.res5a_s2",
        grad_input="3 direct, 1 pixelwise",
    ),
    Pinned("4x4 and 5x10 of stride 2", "gan.d3 deepbench.sp", grad_input="4 direct"),
    Pinned(
        "three channels of the input, which leave a fourth of the narrowest vector empty",
        "gan.d1 r50.conv1",
        grad_input="4 rowwise",
    ),
    Pinned("11x11 of stride 4: 2 or 3 taps an axis", "alex.1", grad_input="16 rowwise"),
    Pinned(
        "kernel = stride: the pixels of a patch are lanes, in one phase",
        "convnext.patch vit.p16",
        grad_input="direct",
    ),
)

ALL = {"forward": "winograd", "grad_input": "winograd", "grad_weight": "winograd"}

# Where Winograd is allowed; the other layers keep their paths.
WINOGRAD = (
    Pinned(
        "3x3 of stride 1, with many tiles for each transform",
        "r50.res2 r50.res3 vgg.1_2 vgg.3_2 unet sd.320 sd.1280 b1.res2",
        **ALL,
    ),
    Pinned(
        "14x14: 49 tiles fill vectors of four or eight lanes",
        "r50.res4 vgg.5 b1.small",
        kernels=("avx512 float64", *KERNELS[3:]),
        **ALL,
    ),
    Pinned(
        "the same, eight lanes: 256 results or more of grad_input share a transform, in forward 64",
        "r50.res4 vgg.5",
        grad_input="winograd",
        grad_weight="winograd",
        kernels=("avx2 float32",),
    ),
    Pinned(
        "the same: 64 results of grad_input do not suffice",
        "b1.small",
        grad_weight="winograd",
        kernels=("avx2 float32",),
    ),
    Pinned(
        "the same, 16 lanes, filled by three quarters: 512 results of grad_input share a transform",
        "vgg.5",
        grad_input="winograd",
        kernels=("avx512 float32",),
    ),
    Pinned("7x7: 16 tiles, whose weight outweighs all else", "r50.res5 b1.res5"),
    Pinned("8x8 of 8 channels: transforms are shared by few", "b1.tiny"),
    Pinned(
        "16 channels: transforms are shared by 64 filters in forward alone",
        "cifar.r20",
        forward="winograd",
        kernels=KERNELS[:4],
    ),
    Pinned("of 4 lanes or 2, transforms cost less", "cifar.r20", kernels=KERNELS[4:], **ALL),
    Pinned(
        "dilation 12 on 33x33: 144 phases of 2x2 tiles, and most taps on padding", "deeplab.aspp"
    ),
    Pinned(
        "dilation 3, pixels apart: 512 results of grad_input share a transform, in forward 64",
        "rfcn.dil3",
        grad_input="winograd",
        kernels=WIDE,
    ),
    Pinned(
        "the same, four lanes: fewer pixels a vector",
        "rfcn.dil3",
        forward="winograd",
        grad_input="winograd",
        kernels=("avx2 float64",),
    ),
    Pinned("the same, at the costs of the baseline", "rfcn.dil3", kernels=KERNELS[4:], **ALL),
    Pinned(
        "16 channels a group, 14x14, at the same costs", "resnext@14", kernels=KERNELS[4:], **ALL
    ),
    Pinned(
        "7x7 of stride 2 has a phase of 3x3 taps, and few channels fill a part of a vector",
        "r50.conv1",
        grad_input="3 rowwise, 1 winograd",
        kernels=WIDE,
    ),
    Pinned(
        "11x11 of stride 4 has nine phases of 3x3 taps, and three channels fill a part of 16 lanes",
        "alex.1",
        grad_input="7 rowwise, 9 winograd",
        kernels=("avx512 float32",),
    ),
)
