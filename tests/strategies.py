"""Convolutions for hypothesis, valid by construction: nothing is drawn and then rejected."""

from __future__ import annotations

from hypothesis import strategies as st

from convgrad_ext.cases import Case

Axis = tuple[int, int, int, tuple[int, int], int]


@st.composite
def axes(draw: st.DrawFn, largest: int = 6) -> Axis:
    """(input_extent, kernel_size, stride, (lo, hi), dilation) of an axis with an output or more.

    The kernel and its dilation come first, then paddings of either side up to beyond the kernel,
    and then an image at least as large as the kernel still needs.
    """
    kernel_size = draw(st.integers(1, largest))
    dilation = draw(st.integers(1, 4))
    stride = draw(st.integers(1, largest))
    span = dilation * (kernel_size - 1) + 1
    lo, hi = draw(st.integers(0, span + 2)), draw(st.integers(0, span + 2))
    least = max(1, span - lo - hi)
    input_extent = draw(st.integers(least, least + 2 * largest))
    return input_extent, kernel_size, stride, (lo, hi), dilation


@st.composite
def pieces(draw: st.DrawFn, largest: int = 6) -> Axis:
    """The same; a kernel as wide as the stride, and as many inputs as the outputs meet."""
    kernel_size, outputs = draw(st.integers(2, largest)), draw(st.integers(1, largest))
    return outputs * kernel_size, kernel_size, kernel_size, (0, draw(st.integers(0, 1))), 1


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A convolution with 0 to 3 images, 1 to 3 groups and independent axes."""
    H_in, K_h, stride_h, padding_h, dilation_h = draw(axes(largest=4))
    W_in, K_w, stride_w, padding_w, dilation_w = draw(axes(largest=4))
    groups = draw(st.integers(1, 3))
    per_group = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return Case(
        name="drawn",
        reason="drawn by hypothesis",
        N=draw(st.integers(0, 3)),
        channels=(groups * per_group[0], groups * per_group[1]),
        image=(H_in, W_in),
        kernel=(K_h, K_w),
        stride=(stride_h, stride_w),
        padding=(padding_h, padding_w),
        dilation=(dilation_h, dilation_w),
        groups=groups,
    )


@st.composite
def patches(draw: st.DrawFn) -> Case:
    """A kernel as large as its stride, an image that it covers, and filters enough for lanes."""
    kernel = draw(st.integers(2, 5)), draw(st.integers(2, 5))
    outputs = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    return Case(
        name="drawn",
        reason="drawn by hypothesis",
        N=draw(st.integers(1, 3)),
        channels=(draw(st.integers(1, 9)), draw(st.integers(16, 40))),
        image=(kernel[0] * outputs[0], kernel[1] * outputs[1]),
        kernel=kernel,
        stride=kernel,
    )


@st.composite
def layers(draw: st.DrawFn) -> Case:
    """A layer with enough channels and pixels for every path.

    Most kernels have three taps along both axes, or three in a phase of the stride.
    """
    kernel, stride = draw(st.sampled_from([(3, 1), (3, 1), (3, 1), (1, 1), (1, 2), (5, 2), (6, 2)]))
    dilation = draw(st.integers(1, 2)) if stride == 1 else 1
    span = dilation * (kernel - 1) + 1
    sides = st.tuples(st.integers(0, span), st.integers(0, span))
    groups = draw(st.sampled_from([1, 1, 2]))
    per_group = st.sampled_from([1, 7, 16, 20, 33, 40])
    least = 10 * stride  # pixels, and the kernel's span beside them
    return Case(
        name="drawn",
        reason="drawn by hypothesis",
        N=draw(st.integers(1, 2)),
        channels=(groups * draw(per_group), groups * draw(per_group)),
        image=(
            span + draw(st.integers(least, least + 8)),
            span + draw(st.integers(least, least + 8)),
        ),
        kernel=(kernel, kernel),
        stride=stride,
        padding=(draw(sides), draw(sides)),
        dilation=dilation,
        groups=groups,
    )
