"""What a link keeps, the layers that can be chosen, and what is copied."""

from __future__ import annotations

import contextlib
import io
import re

import pytest
import torch
from conftest import Shown
from layers import NAMED, Axis, Layer
from playwright.sync_api import Browser

STATE = (
    "names=question&count=1&zeros=1&pass=grad_weight&order=scatter&step=3&speed=fast"
    "&pin=grad_input:0,1,1&kernels=3,-1,4,1,-5,9"
)
EVERYTHING = """() => [
    document.querySelector("#page").innerText,
    [...document.querySelectorAll("td")].map((cell) => cell.className),
    [...document.querySelectorAll("input, select")].map((field) => [field.value, field.checked]),
]"""


def copied(shown: Shown, what: str) -> str:
    shown.page.get_by_role("button", name=what).click()
    box = shown.page.locator("#copied")
    box.wait_for()
    text = box.input_value()
    assert shown.page.evaluate("navigator.clipboard.readText()") == text
    return text


def slide(shown: Shown, name: str, value: int) -> None:
    shown.page.locator(f"[name='{name}']").fill(str(value))


def test_the_page_starts_with_the_layer_of_the_command(shown: Shown) -> None:
    shown.open()
    for name, expected in NAMED["axes_differ"].grids().items():
        assert shown.numbers(name) == expected.flatten().tolist()


def test_a_link_keeps_all_state(browser: Browser, shown: Shown) -> None:
    """Another browser that follows the copied link shows the same."""
    shown.open(f"{NAMED['axes_differ'].link()}&{STATE}")
    link = copied(shown, "as a link")
    shown.page.get_by_role("button", name="close").click()
    for part in STATE.split("&"):
        assert part in link
    context = browser.new_context()
    page = context.new_page()
    page.goto(link)
    assert page.evaluate(EVERYTHING) == shown.page.evaluate(EVERYTHING)
    context.close()


def test_an_encoded_link_is_the_same(shown: Shown) -> None:
    shown.open("input=4%2C3&kernel=2&pin=grad_input%3A0%2C1%2C1")
    assert shown.text("[role=alert]") == ""
    assert shown.page.locator(".pinned").get_attribute("data-cell") == "grad_input:0,1,1"


def test_notation_and_first_index(shown: Shown) -> None:
    layer = NAMED["the_4x4_image"]
    pin = {"pin": "grad_input:0,1,1"}
    shown.open(layer.link(**pin))
    assert shown.text(".symbols") == "grad_input[1,1] = grad_output[0,0]*kernel[1,1]"
    shown.open(layer.link(names="question", count=1, **pin))
    assert shown.text(".symbols") == "dI[2,2] = dO[1,1]*K[2,2]"
    shown.open(layer.link(names="textbook", **pin))
    assert shown.text(".symbols") == "dX[1,1] = dY[0,0]*W[1,1]"


@pytest.mark.parametrize(
    ("channels", "filters", "groups", "symbols"),
    [
        (1, 2, 1, "output[1,0,0] = input[0,0]*kernel[1,0,0]"),
        (2, 1, 1, "output[0,0] = input[0,0,0]*kernel[0,0,0,0] + input[1,0,0]*kernel[0,1,0,0]"),
        (2, 2, 2, "output[1,0,0] = input[1,0,0]*kernel[1,0,0]"),
    ],
    ids=["filters", "channels", "groups"],
)
def test_channels_are_indexed_where_there_are_several(
    shown: Shown, channels: int, filters: int, groups: int, symbols: str
) -> None:
    """The channel of a kernel counts within its group."""
    shown.open(
        f"input=1&kernel=1&channels={channels}&filters={filters}&groups={groups}"
        f"&pin=output:{filters - 1},0,0"
    )
    assert shown.text(".symbols") == symbols


def test_sliders_change_the_layer(shown: Shown) -> None:
    shown.open("input=4&kernel=2")
    slide(shown, "columns.stride", 2)
    slide(shown, "rows.before", 1)
    slide(shown, "filters", 2)
    layer = Layer(Axis(4, 2, before=1), Axis(4, 2, stride=2), filters=2)
    for name, expected in layer.grids().items():
        assert shown.numbers(name) == expected.flatten().tolist()


def test_edited_numbers_stay_in_their_cells(shown: Shown) -> None:
    """Where a cell is new, the number is 0."""
    shown.open("input=2&kernel=1&inputs=5,6,7,8")
    slide(shown, "columns.input", 3)
    assert shown.numbers("input") == [5, 6, 0, 7, 8, 0]


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        (
            "input=4&kernel=5,2",
            "A kernel of 5 taps and dilation 1 spans 5 rows, but the padded input has 4.",
        ),
        (
            "input=4&kernel=2&dilation=1,4&before=0&behind=0",
            "A kernel of 2 taps and dilation 4 spans 5 columns, but the padded input has 4.",
        ),
        ("channels=3&filters=2&groups=2", "3 channels cannot be split into 2 groups of one size."),
        ("channels=2&filters=3&groups=2", "3 filters cannot be split into 2 groups of one size."),
        ("channels=2&filters=1&groups=2", "1 filter cannot be split into 2 groups of one size."),
    ],
)
def test_an_impossible_layer_says_why(shown: Shown, link: str, reason: str) -> None:
    """Sliders still work, so that one gets out again."""
    shown.open(link)
    assert shown.text("[role=alert]") == reason
    assert shown.page.locator("[data-cell]").count() == 0
    assert shown.page.get_by_role("button", name="as PyTorch").is_disabled()
    for name in ("rows.kernel", "columns.dilation", "groups"):
        slide(shown, name, 1)
    assert shown.text("[role=alert]") == ""
    assert shown.page.locator("[data-cell]").count() > 0


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("stride=9", "stride must be one or two whole numbers from 1 to 4"),
        ("input=1.5", "input must be one or two whole numbers from 1 to 12"),
        ("before=-1,0", "before must be one or two whole numbers from 0 to 5"),
        ("groups=0", "groups must be a whole number from 1 to 3"),
        ("names=latin", "names must be one of ours, question, textbook"),
        ("pin=grad_input", "pin must be a grid and a cell, as in grad_input:0,2,3"),
        ("kernels=1,x", "they must be whole numbers from -99 to 99"),
        ("colour=red", "it has no such part"),
        ("constructor=1", "it has no such part"),
        ("names=%E0%A4%A", "names must be one of ours, question, textbook"),
    ],
)
def test_a_bad_link_says_what_it_may_be(shown: Shown, part: str, reason: str) -> None:
    shown.open(part)
    assert shown.text("[role=alert]") == f"The link has {part}: {reason}."
    assert shown.page.locator("[data-cell]").count() > 0


def test_a_pin_beyond_the_layer_is_named(shown: Shown) -> None:
    shown.open("input=2&kernel=1&pin=input:0,2,0")
    assert shown.text("[role=alert]") == "The link has pin=input:0,2,0: no such cell."


def test_examples_are_the_worked_ones(shown: Shown) -> None:
    """The gradients that the documentation works out by hand."""
    shown.open()
    select = shown.page.locator("[name=example]")
    select.select_option("4x4 image, 2x2 kernel, stride 2")
    assert shown.numbers("grad_weight") == [78, 88, 118, 128]
    select.select_option("4x4 image, 2x2 kernel, stride 1")
    assert shown.numbers("grad_weight") == [348, 393, 528, 573]


def test_an_example_keeps_the_notation(shown: Shown) -> None:
    """And what is chosen stays shown as chosen."""
    shown.open("channels=2&filters=2&groups=2&pin=input:1,0,0&step=1&inputs=5")
    shown.page.locator("[name=names]").select_option("question")
    shown.page.locator("[name=example]").select_option("4x4 image, 2x2 kernel, stride 2")
    assert shown.page.locator("[name=names]").input_value() == "question"
    assert shown.page.locator("[data-grid=kernel] b").inner_text() == "K"
    for name, expected in NAMED["the_4x4_image"].grids().items():
        assert shown.numbers(name) == expected.flatten().tolist()
    assert shown.page.locator(".pinned").count() == 0
    shown.page.evaluate("location.hash = 'names=textbook'")
    shown.page.locator("[data-grid=kernel] b", has_text="W").wait_for()
    assert shown.page.locator("[name=names]").input_value() == "textbook"


def test_every_example_is_a_layer(shown: Shown) -> None:
    shown.open()
    select = shown.page.locator("[name=example]")
    _, *names = select.locator("option").all_inner_texts()
    assert len(names) >= 6
    for name in names:
        select.select_option(name)
        assert shown.text("[role=alert]") == ""
        assert shown.page.locator("[data-cell]").count() > 0


@pytest.mark.parametrize("name", ["axes_differ", "sides_differ", "groups", "channels_and_filters"])
def test_the_copied_program_computes_the_grids(shown: Shown, name: str) -> None:
    layer = NAMED[name]
    shown.open(layer.link())
    names: dict[str, torch.Tensor] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(copied(shown, "as PyTorch"), names)
    for grid in ("output", "grad_input", "grad_weight", "grad_bias"):
        assert names[grid].flatten().tolist() == layer.grids()[grid].flatten().tolist()


def test_the_copied_latex_is_the_formula(shown: Shown) -> None:
    shown.open(NAMED["axes_differ"].link(pin="grad_input:0,2,3"))
    assert copied(shown, "as LaTeX") == (
        r"\mathrm{grad\_input}_{2,3} = \mathrm{grad\_output}_{1,2} \mathrm{kernel}_{1,1}"
        r" + \mathrm{grad\_output}_{1,4} \mathrm{kernel}_{1,0} = 9 \cdot 4 + 11 \cdot 3 = 69"
    )
    shown.open(NAMED["axes_differ"].link(pin="grad_input:0,2,3", names="question", count=1))
    latex = copied(shown, "as LaTeX")
    assert latex.startswith(r"\mathrm{d}I_{3,4} = \mathrm{d}O_{2,3} K_{2,2} + ")


def test_the_copied_latex_is_valid(shown: Shown) -> None:
    """Every cell's, as the documentation's converter reads it."""
    convert = pytest.importorskip(
        "latex2mathml.converter", reason="pip install latex2mathml"
    ).convert
    for pin in ("output:0,1,1", "grad_weight:0,0,0", "grad_bias:0,0,0", "input:0,0,0"):
        shown.open(NAMED["axes_differ"].link(pin=pin, inputs="-5,3"))
        mathml = convert(copied(shown, "as LaTeX"))
        assert re.search(r"<mo>&#x0003D;</mo>", mathml)
