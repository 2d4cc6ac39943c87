"""Every cell of fifty layers: its number, the cells that it lights, and its formula."""

from __future__ import annotations

import re

import pytest
import torch
from conftest import Shown
from layers import NAMED, RESULT_OF, Layer, fifty, split

LAYERS = fifty()
WALK = """() => [...document.querySelectorAll("[data-cell]")].map((cell) => {
    cell.focus();
    return {
        cell: cell.dataset.cell,
        active: document.querySelector(".active").dataset.cell,
        lit: [...document.querySelectorAll(".lit")].map((met) => met.dataset.cell),
        formula: document.querySelector("#formula").innerText,
    };
})"""
Numbers = dict[str, list[list[list[float]]]]  # by plane, row and column
NAME = re.compile(r"(\w+)\[([\d,]+)\]")


def place_of(layer: Layer, name: str, indices: list[int]) -> tuple[int, ...]:
    """Where a name of a formula is in its grid; channels that are one are left out of it."""
    if name == "grad_bias":
        return 0, 0, *indices
    *front, y, x = indices
    kernel = name in ("kernel", "grad_weight")
    if kernel and len(front) == 2:
        return front[0] * (layer.channels // layer.groups) + front[1], y, x
    return (*front, y, x) if front else (0, y, x)


def evaluated(text: str, layer: Layer, grids: Numbers) -> float:
    """A formula in symbols, with the numbers of torch in their place."""

    def number(match: re.Match[str]) -> str:
        indices = [int(n) for n in match[2].split(",")]
        plane, y, x = place_of(layer, match[1], indices)
        return repr(grids[match[1]][plane][y][x])

    return eval(NAME.sub(number, text))


def check_formula(text: str, cell: str, layer: Layer, grids: Numbers) -> None:
    grid, plane, y, x = split(cell)
    value = grids[RESULT_OF.get(grid, grid)][plane][y][x]
    left, right = re.match(r"(\S+) = (.+)", text).groups()
    assert evaluated(left, layer, grids) == value
    assert evaluated(right, layer, grids) == value
    if "nothing meets it" in text:
        assert value == 0
        return
    numbers, total = re.search(r"\n= (.+) = (-?\d+)$", text).groups()
    assert numbers.count("+") == right.count("+")
    assert eval(numbers) == float(total) == value


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_the_page_agrees_with_torch_and_the_extension(shown: Shown, layer: Layer) -> None:
    shown.open(layer.link())
    grids = layer.grids()
    for name, expected in grids.items():
        assert shown.numbers(name) == expected.flatten().tolist(), name
    numbers = {name: grid.tolist() for name, grid in grids.items()}  # a tensor's are slow to read
    walked = shown.page.evaluate(WALK)
    assert len(walked) == sum(grid.numel() for grid in grids.values())
    for seen in walked:
        assert seen["active"] == seen["cell"]
        assert set(seen["lit"]) == layer.lit_by(seen["cell"]), seen["cell"]
        check_formula(seen["formula"].replace("\xa0", " "), seen["cell"], layer, numbers)


@pytest.mark.parametrize("name", ["axes_differ", "phases_without_taps", "sides_differ"])
def test_phases_have_equal_remainders(shown: Shown, name: str) -> None:
    """(i + padding) mod stride, on both axes: letter and colour change together."""
    layer = NAMED[name]
    shown.open(layer.link())
    for grid in ("input", "grad_input"):
        cells = shown.page.evaluate(
            "grid => [...document.querySelectorAll(`[data-cell^='${grid}:'] small`)]"
            ".map(s => [s.parentNode.dataset.cell, s.textContent,"
            " getComputedStyle(s.parentNode).backgroundColor])",
            grid,
        )
        kinds = {}
        for cell, letter, colour in cells:
            _, _, *place = split(cell)
            remainders = tuple(
                (i + axis.before) % axis.stride for i, axis in zip(place, layer.axes, strict=True)
            )
            kinds.setdefault(remainders, set()).add((letter, colour))
        phases = [min(axis.stride, axis.input) for axis in layer.axes]
        assert len(kinds) == phases[0] * phases[1]
        assert all(len(kind) == 1 for kind in kinds.values())
        assert len({letter for kind in kinds.values() for letter, _ in kind}) == len(kinds)


@pytest.mark.parametrize("name", ["sides_differ", "a_row_left_over"])
def test_padding_is_hatched_and_has_no_number(shown: Shown, name: str) -> None:
    layer = NAMED[name]
    shown.open(layer.link())
    rows, columns = (axis.before + axis.input + axis.behind for axis in layer.axes)
    hatched = shown.page.evaluate(
        "[...document.querySelectorAll('td')].filter(cell =>"
        " getComputedStyle(cell).backgroundImage.includes('gradient')).map(c => c.innerText.trim())"
    )
    assert len(hatched) == rows * columns - layer.rows.input * layer.columns.input
    assert set(hatched) <= {"padding"}


@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("a_row_left_over", ["Left over, because the stride does not reach them: row 5; {0}"]),
        (
            "phases_without_taps",
            [
                "No tap meets the phase of rows 1, 3, 5: {0}",
                "No tap meets the phase of columns 1, 2, 3: {0}",
            ],
        ),
        ("axes_differ", []),
    ],
)
def test_pixels_that_meet_nothing_are_named(shown: Shown, name: str, notes: list[str]) -> None:
    shown.open(NAMED[name].link())
    _, *found = shown.page.locator(".notes li").all_inner_texts()
    assert found == [note.format("grad_input is 0 there.") for note in notes]


def test_padding_moves_the_phase_without_taps(shown: Shown) -> None:
    """One row of padding: the taps of stride 2 and dilation 2 meet odd rows."""
    shown.open("input=7,3&kernel=2,1&stride=2,1&dilation=2,1&before=1,0")
    _, *found = shown.page.locator(".notes li").all_inner_texts()
    assert found == ["No tap meets the phase of rows 0, 2, 4, 6: grad_input is 0 there."]


def test_pixels_between_taps_are_named(shown: Shown) -> None:
    """One output, whose two taps are three pixels apart: row 1 is in the phase of tap 1."""
    shown.open("input=5&kernel=2&dilation=3&stride=2")
    _, *found = shown.page.locator(".notes li").all_inner_texts()
    assert found[:2] == [
        "No output reads rows 1, 2: grad_input is 0 there.",
        "Left over, because the stride does not reach them: row 4; grad_input is 0 there.",
    ]


def test_the_relation_is_written_for_both_axes(shown: Shown) -> None:
    shown.open(NAMED["axes_differ"].link())
    relations = shown.page.locator(".notes code").all_inner_texts()
    assert relations == ["i = 2*o - 1 + k", "i = o - 1 + 2*k"]


@pytest.mark.parametrize(
    "name", ["axes_differ", "groups", "outputs_in_the_padding", "sides_differ"]
)
def test_the_zeros_of_textbooks(shown: Shown, name: str) -> None:
    """grad_output, its numbers a stride apart, is as large as the flipped kernel's way over it."""
    layer = NAMED[name]
    shown.open(layer.link(zeros=1))
    assert shown.numbers_of_zeros() == zeros_of(layer).flatten().tolist()
    pairs = len(layer.pairs())
    with_zeros = pairs * torch.tensor([a.input * a.kernel for a in layer.axes]).prod().item()
    met = pairs
    for axis in layer.axes:
        met *= sum(len(axis.met_by("i", i)) for i in range(axis.input))
    wasted = with_zeros - met
    percent = (200 * wasted + with_zeros) // (2 * with_zeros)  # halves upwards
    count = shown.page.locator(".zeros p.count").inner_text()
    assert count.startswith(
        f"{with_zeros} products, of which {met} meet: {wasted} are wasted ({percent} %)."
    )


def zeros_of(layer: Layer) -> torch.Tensor:
    """The picture of docs/gradients.md: zeros between, then cut or padded to the pixels' reach."""
    grad = layer.operands()["grad_output"]
    for dim, axis in enumerate(layer.axes, start=1):
        margin = axis.dilation * (axis.kernel - 1)
        first = axis.before - margin
        positions = range(first, axis.before + axis.input)
        slices = [
            grad.select(dim, q // axis.stride)
            if q >= 0 and q % axis.stride == 0 and q // axis.stride < grad.shape[dim]
            else torch.zeros_like(grad.select(dim, 0))
            for q in positions
        ]
        grad = torch.stack(slices, dim)
    return grad


def test_the_taps_of_each_phase_are_beside_the_zeros(shown: Shown) -> None:
    """With one row of padding, row 0 is in the phase of the middle tap."""
    shown.open("input=5&kernel=3&stride=2,1&before=1,0&zeros=1")
    assert shown.page.locator(".zeros li").all_inner_texts() == [
        "a rows: tap 1; columns: taps 0, 1, 2",
        "b rows: taps 0, 2; columns: taps 0, 1, 2",
    ]


def test_a_pixel_marks_what_the_flipped_kernel_covers(shown: Shown) -> None:
    """Among them zeros: the products that are wasted."""
    shown.open(NAMED["the_4x4_image"].link(zeros=1, pin="grad_input:0,1,2"))
    under = shown.page.locator(".zeros .under")
    assert under.all_inner_texts() == ["0", "2", "0", "0"]


def test_a_pixel_is_under_the_kernels_of_its_group(shown: Shown) -> None:
    shown.open("input=2&kernel=1&channels=2&filters=2&groups=2&zeros=1&pin=grad_input:1,0,1")
    assert shown.page.locator(".zeros .under").all_inner_texts() == ["6"]
