"""csrc/geometry: the three closed forms against the definition, for every pair of indices."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Axis as DrawnAxis
from strategies import axes, pieces

from convgrad_ext._C import Axis, Walk
from convgrad_ext.padding import LARGEST_EXTENT, same_padding


def meetings_by_definition(axis: DrawnAxis) -> set[tuple[int, int, int]]:
    """Every (i, o, k) with i = o*stride - lo + k*dilation, by trying all o and k."""
    extent, kernel_size, stride, (lo, hi), dilation = axis
    outputs = (extent + lo + hi - dilation * (kernel_size - 1) - 1) // stride + 1
    triples = (
        (o * stride - lo + k * dilation, o, k) for o in range(outputs) for k in range(kernel_size)
    )
    return {(i, o, k) for i, o, k in triples if 0 <= i < extent}


@given(axes())
@settings(max_examples=3000)
def test_the_three_views_are_the_relation(drawn: DrawnAxis) -> None:
    extent, kernel_size, *_ = drawn
    axis = Axis(*drawn)
    expected = meetings_by_definition(drawn)

    def inputs(o: int, k: int) -> int:
        _, _, stride, (lo, _), dilation = drawn
        return o * stride - lo + k * dilation

    by_tap = {
        (inputs(o, k), o, k) for k in range(kernel_size) for o in range(*axis.outputs_of_tap(k))
    }
    by_output = {
        (inputs(o, k), o, k)
        for o in range(axis.output_extent)
        for k in range(*axis.taps_of_output(o))
    }
    by_input = {(i, o, k) for i in range(extent) for k, o in axis.meetings_of_input(i)}
    assert by_tap == expected
    assert by_output == expected
    assert by_input == expected


def read_by(walk: Walk) -> list[tuple[int, int, int]]:
    """Every (destination pixel, source, tap) of a walk, as a kernel in Python goes through them."""
    return [
        (walk.pixel(d), walk.source(d, t), walk.tap(t))
        for d in range(walk.D)
        for t in range(*walk.taps_of(d))
    ]


@given(axes())
@settings(max_examples=300)
def test_new_sources_are_those_beyond_the_pixel_before(drawn: DrawnAxis) -> None:
    """Rows that are fetched while the row before is computed; between taps also unread ones."""
    axis = Axis(*drawn)
    for walk in (axis.outputs(), *map(axis.inputs_of_phase, range(axis.phases()))):
        for d in range(1, walk.D) if walk.T else ():
            before, now = ([walk.source(p, t) for t in range(walk.T)] for p in (d - 1, d))
            beyond = [i for i in range(walk.S) if max(before) < i <= max(now) and min(now) <= i]
            assert [*range(*walk.new_sources_of(d))] == beyond


@given(axes(), st.data())
@settings(max_examples=1000)
def test_the_interior_of_a_walk_meets_every_tap(drawn: DrawnAxis, data: st.DataObject) -> None:
    """Of the outputs, or of a phase of the inputs; nothing without a tap."""
    axis = Axis(*drawn)
    walks = [axis.outputs(), *map(axis.inputs_of_phase, range(axis.phases()))]
    walk = data.draw(st.sampled_from(walks))
    meet_all = [d for d in range(walk.D) if walk.T and walk.taps_of(d) == (0, walk.T)]
    assert list(range(*walk.interior())) == meet_all


@given(axes())
@settings(max_examples=1000)
def test_the_walk_over_outputs_is_the_relation(drawn: DrawnAxis) -> None:
    extent, kernel_size, *_ = drawn
    walk = Axis(*drawn).outputs()
    read = [(i, o, k) for o, i, k in read_by(walk)]
    assert len(set(read)) == len(read)
    assert set(read) == meetings_by_definition(drawn)
    assert extent == walk.S
    assert kernel_size == walk.T


@given(axes())
@settings(max_examples=1000)
def test_the_walks_over_phases_are_the_relation(drawn: DrawnAxis) -> None:
    """Together they own every input once, also the inputs that no output sees."""
    extent, _, stride, *_ = drawn
    axis = Axis(*drawn)
    walks = [axis.inputs_of_phase(first) for first in range(axis.phases())]
    owned = [walk.pixel(d) for walk in walks for d in range(walk.D)]
    assert sorted(owned) == list(range(extent))
    assert len(walks) <= stride
    read = [(i, o, k) for walk in walks for i, o, k in read_by(walk)]
    assert len(set(read)) == len(read)
    assert set(read) == meetings_by_definition(drawn)


@given(axes() | pieces())
@settings(max_examples=1000)
def test_pieces_are_the_relation(drawn: DrawnAxis) -> None:
    """Output o meets the inputs from o*K on under the taps from 0 on, and there are no others."""
    extent, kernel_size, *_ = drawn
    in_pieces = {(i, i // kernel_size, i % kernel_size) for i in range(extent)}
    same = meetings_by_definition(drawn) == in_pieces
    whole = same and extent == Axis(*drawn).output_extent * kernel_size
    assert Axis(*drawn).is_in_pieces() == (whole and kernel_size > 1)


@given(axes())
@settings(max_examples=300)
def test_a_walk_is_made_of_its_numbers(drawn: DrawnAxis) -> None:
    """A kernel may compute with these instead of a call per pixel."""
    axis = Axis(*drawn)
    for walk in (axis.outputs(), *map(axis.inputs_of_phase, range(axis.phases()))):
        for d, t in product(range(walk.D), range(walk.T)):
            assert walk.source(d, t) == walk.origin + d * walk.step + t * walk.tap_step
            assert walk.pixel(d) == walk.first_pixel + d * walk.pixel_step
            assert walk.tap(t) == walk.first_tap + t * walk.weight_step
            assert (t in range(*walk.taps_of(d))) == (0 <= walk.source(d, t) < walk.S)


def test_the_phases_of_stride_two_by_hand() -> None:
    """5 pixels, 3 taps, stride 2, padding 1: taps 0 and 2 of the odd phase meet o + 1 and o."""
    even, odd = map(Axis(5, 3, 2, (1, 1)).inputs_of_phase, (0, 1))
    assert read_by(even) == [(0, 0, 1), (2, 1, 1), (4, 2, 1)]
    assert read_by(odd) == [(1, 1, 0), (1, 0, 2), (3, 2, 0), (3, 1, 2)]
    assert (odd.step, odd.tap_step, odd.pixel_step, odd.weight_step) == (1, -1, 2, 2)


def test_walks_refuse_indices_that_they_do_not_have() -> None:
    axis = Axis(5, 3, 2, (1, 1))
    with pytest.raises(ValueError, match=r"first must be in \[0, 2\), but got 2"):
        axis.inputs_of_phase(2)
    with pytest.raises(ValueError, match=r"d must be in \[0, 3\), but got -1"):
        axis.outputs().taps_of(-1)


@given(axes())
@settings(max_examples=1000)
def test_ranges_are_ordered_and_inside(drawn: DrawnAxis) -> None:
    """An empty range is empty, never reversed: 0 <= lo <= hi <= extent."""
    axis = Axis(*drawn)
    for k in range(drawn[1]):
        lo, hi = axis.outputs_of_tap(k)
        assert 0 <= lo <= hi <= axis.output_extent
    for o in range(axis.output_extent):
        lo, hi = axis.taps_of_output(o)
        assert 0 <= lo <= hi <= drawn[1]


@given(axes())
@settings(max_examples=1000)
def test_taps_of_an_input_climb_while_outputs_fall(drawn: DrawnAxis) -> None:
    """From one tap of an input to the next, k climbs by stride/g and o falls by dilation/g."""
    _, _, stride, _, dilation = drawn
    axis = Axis(*drawn)
    for i in range(drawn[0]):
        met = axis.meetings_of_input(i)
        for (k, o), (next_k, next_o) in pairwise(met):
            # stride*(o - next_o) = dilation*(next_k - k): together they do not move the input.
            assert next_k > k
            assert stride * (o - next_o) == dilation * (next_k - k)


@pytest.mark.parametrize(
    ("axis", "tap", "outputs"),
    [
        pytest.param(Axis(5, 3, 1, (1, 1)), 0, (1, 5), id="first tap loses the first output"),
        pytest.param(Axis(5, 3, 1, (1, 1)), 1, (0, 5), id="middle tap meets all"),
        pytest.param(Axis(5, 3, 1, (1, 1)), 2, (0, 4), id="last tap loses the last output"),
        pytest.param(Axis(3, 3, 1, (4, 4), 4), 0, (3, 3), id="no output: padding alone"),
        pytest.param(Axis(5, 3, 2, (1, 1)), 0, (1, 3), id="stride 2: outputs 1 and 2 see i=1, 3"),
    ],
)
def test_outputs_of_tap_by_hand(axis: Axis, tap: int, outputs: tuple[int, int]) -> None:
    lo, hi = axis.outputs_of_tap(tap)
    assert (lo, hi) == outputs or (lo == hi and outputs[0] == outputs[1])


def test_phases_of_stride_two_by_hand() -> None:
    """5 pixels, 3 taps, stride 2, padding 1: even pixels meet tap 1, odd ones taps 0 and 2."""
    axis = Axis(5, 3, 2, (1, 1))
    assert [axis.meetings_of_input(i) for i in range(5)] == [
        [(1, 0)],
        [(0, 1), (2, 0)],
        [(1, 1)],
        [(0, 2), (2, 1)],
        [(1, 2)],
    ]


def test_phase_without_a_tap() -> None:
    """Stride 4 and dilation 2 share the factor 2: pixels of odd phase are never read."""
    axis = Axis(9, 3, 4, (0, 0), 2)
    seen = [i for i in range(9) if axis.meetings_of_input(i)]
    assert seen == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("arguments", "padding"),
    [
        pytest.param((5, 3, 1, 1), (1, 1), id="odd span splits evenly"),
        pytest.param((5, 4, 1, 1), (1, 2), id="even span: odd pixel on the far side"),
        pytest.param((5, 3, 1, 2), (2, 2), id="dilation widens the span"),
        pytest.param((5, 3, 2, 1), (1, 1), id="stride 2, odd image"),
        pytest.param((6, 3, 2, 1), (0, 1), id="stride 2, even image"),
        pytest.param((5, 1, 3, 1), (0, 0), id="stride beyond the kernel needs none"),
        pytest.param((4, 2, 3, 1), (0, 1), id="stride beyond the kernel needs some here"),
        pytest.param((1, 3, 2, 1), (1, 1), id="one pixel"),
        pytest.param((5, 3, 2**63 - 1, 1), (0, 0), id="stride near 2^63: one output"),
        pytest.param((2**62, 3, 2**62, 1), (0, 0), id="image as wide as the stride"),
        pytest.param((5, 1, 1, 2**63 - 1), (0, 0), id="dilation of a single tap"),
        pytest.param((5, 2, 1, 2**60), (2**59, 2**59), id="dilation of 2^60"),
    ],
)
def test_same_padding_by_hand(arguments: tuple[int, ...], padding: tuple[int, int]) -> None:
    assert same_padding(*arguments) == padding


@given(axes())
@settings(max_examples=300)
def test_same_padding_is_the_least_that_makes_ceil_of_the_quotient(drawn: DrawnAxis) -> None:
    """By trying one pixel more at a time, with the outputs that the relation then has."""
    extent, kernel_size, stride, _, dilation = drawn
    outputs = -(-extent // stride)
    total = max(0, dilation * (kernel_size - 1) + 1 - extent)  # until the kernel fits at all
    while Axis(extent, kernel_size, stride, (0, total), dilation).output_extent < outputs:
        total += 1
    assert same_padding(extent, kernel_size, stride, dilation) == (total // 2, (total + 1) // 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param((5, 0), "kernel_size=0", id="no tap"),
        pytest.param((5, 3, 0), "stride=0", id="no step"),
        pytest.param((5, 3, 1, (-1, 0)), r"padding=\(-1, 0\)", id="negative padding"),
        pytest.param((5, 3, 1, (0, 0), 0), "dilation=0", id="taps on one pixel"),
        pytest.param((2, 3), "spans 3 pixels and the padded input has 2", id="does not fit"),
    ],
)
def test_impossible_axes_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Axis(*arguments)


def test_same_padding_refuses_what_has_no_answer() -> None:
    with pytest.raises(RuntimeError, match="non-positive stride is not supported"):
        same_padding(5, 3, 0, 1)
    with pytest.raises(RuntimeError, match="non-positive dilation is not supported"):
        same_padding(5, 3, 1, 0)
    largest = LARGEST_EXTENT // 3
    message = rf"dilation={largest + 1} and a kernel of 3 taps, .* to be at most {largest}$"
    with pytest.raises(RuntimeError, match=message):
        same_padding(5, 3, 1, largest + 1)


# Taps that share sources


def walks(axis: Axis) -> list[Walk]:
    """Of forward, and of each phase of grad_input that has taps."""
    phases = (axis.inputs_of_phase(first) for first in range(axis.phases()))
    return [axis.outputs(), *(walk for walk in phases if walk.T > 0)]


@given(drawn=axes(), largest=st.integers(1, 4))
def test_tap_groups_have_each_tap_once_and_share_sources(drawn: DrawnAxis, largest: int) -> None:
    for walk in walks(Axis(*drawn)):
        apart = walk.pixels_apart()
        for taps in ((0, walk.T), (walk.T // 3, walk.T)):
            seen = []
            for first, step, count in walk.tap_groups(taps, largest):
                assert 1 <= count <= largest
                group = [first + j * step for j in range(count)]
                for tap, following in pairwise(group):
                    assert walk.source(0, following) == walk.source(apart, tap)
                seen += group
            assert sorted(seen) == list(range(*taps))


@given(drawn=axes(), most=st.integers(1, 5))
def test_pixel_groups_have_each_pixel_once(drawn: DrawnAxis, most: int) -> None:
    """Pixels of a group are pixels_apart; no group is more than twice as large as another."""
    for walk in walks(Axis(*drawn)):
        apart = walk.pixels_apart()
        groups = walk.pixel_groups((0, walk.D), most)
        assert all(1 <= count <= most for _, count in groups)
        pixels = [first + i * apart for first, count in groups for i in range(count)]
        assert sorted(pixels) == list(range(walk.D))


@given(drawn=axes())
def test_tap_segments_are_the_pixels_of_the_same_taps(drawn: DrawnAxis) -> None:
    for walk in walks(Axis(*drawn)):
        segments = walk.tap_segments((0, walk.D))
        taps = [range_ for pixels, range_ in segments for _ in range(*pixels)]
        assert taps == [walk.taps_of(d) for d in range(walk.D)]
        assert all(a != b for (_, a), (_, b) in pairwise(segments))


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda walk: walk.tap_groups((0, 4), 2), r"taps must be a range in \[0, 3\)"),
        (lambda walk: walk.tap_groups((0, 3), 0), "largest must be >= 1, but got 0"),
        (lambda walk: walk.pixel_groups((2, 1), 2), r"pixels must be a range in \[0, 5\)"),
        (lambda walk: walk.pixel_groups((0, 5), 0), "most must be >= 1, but got 0"),
        (lambda walk: walk.tap_segments((-1, 2)), r"pixels must be a range in \[0, 5\)"),
    ],
)
def test_groups_refuse_other_ranges(call: Callable, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        call(Axis(5, 3, padding=(1, 1)).outputs())
