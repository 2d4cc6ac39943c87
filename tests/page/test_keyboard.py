"""The page without a mouse, and with one, and by touch."""

from __future__ import annotations

import pytest
from conftest import Shown
from layers import NAMED, Layer
from playwright.sync_api import Browser


@pytest.fixture
def layer(shown: Shown) -> Layer:
    layer = NAMED["axes_differ"]
    shown.open(layer.link())
    return layer


def press(shown: Shown, *keys: str) -> str | None:
    """Where the focus is afterwards."""
    for key in keys:
        shown.page.keyboard.press(key)
    return shown.focused()


def tab_to(shown: Shown, cell: str) -> None:
    for _ in range(60):
        if press(shown, "Tab") == cell:
            return
    raise AssertionError(f"Tab does not reach {cell}")


@pytest.mark.usefixtures("layer")
def test_tab_stops_once_in_each_grid(shown: Shown) -> None:
    stops = [press(shown, "Tab") for _ in range(45)]
    cells = [stop for stop in stops if stop]
    grids = ("input", "kernel", "output", "grad_input", "grad_weight", "grad_output", "grad_bias")
    assert cells[:7] == [f"{grid}:0,0,0" for grid in grids]


def test_arrows_home_and_end_stay_in_the_grid(shown: Shown, layer: Layer) -> None:
    tab_to(shown, "input:0,0,0")
    assert press(shown, "ArrowUp") == press(shown, "ArrowLeft") == "input:0,0,0"
    assert press(shown, "ArrowDown", "ArrowRight", "ArrowRight") == "input:0,1,2"
    assert press(shown, "ArrowLeft", "ArrowUp") == "input:0,0,1"
    last = layer.columns.input - 1
    assert press(shown, "End") == f"input:0,0,{last}"
    assert press(shown, "ArrowRight") == f"input:0,0,{last}"
    assert press(shown, "Home") == "input:0,0,0"
    assert press(shown, "Control+End") == f"input:0,{layer.rows.input - 1},{last}"
    assert press(shown, "Home") == f"input:0,{layer.rows.input - 1},0"
    assert press(shown, "Control+Home") == "input:0,0,0"


@pytest.mark.usefixtures("layer")
def test_a_grid_remembers_where_one_was(shown: Shown) -> None:
    tab_to(shown, "input:0,0,0")
    press(shown, "ArrowDown", "ArrowRight")
    assert press(shown, "Tab") == "kernel:0,0,0"
    assert press(shown, "Shift+Tab") == "input:0,1,1"


def test_enter_pins_and_escape_lets_go(shown: Shown, layer: Layer) -> None:
    tab_to(shown, "grad_input:0,0,0")
    press(shown, "ArrowDown", "Enter")
    pinned = shown.page.locator(".pinned")
    assert pinned.get_attribute("data-cell") == "grad_input:0,1,0"
    assert pinned.get_attribute("aria-selected") == "true"
    press(shown, "ArrowDown")
    assert shown.page.locator(".active").get_attribute("data-cell") == "grad_input:0,1,0"
    lit = {cell.get_attribute("data-cell") for cell in shown.page.locator(".lit").all()}
    assert lit == layer.lit_by("grad_input:0,1,0")
    shown.page.locator("[data-cell='kernel:0,0,0']").hover()
    assert shown.page.locator(".active").get_attribute("data-cell") == "grad_input:0,1,0"
    shown.page.locator("h1").hover()
    press(shown, "Escape")
    assert shown.page.locator(".pinned").count() == 0
    assert shown.page.locator(".active").get_attribute("data-cell") == "grad_input:0,2,0"


def test_a_number_is_edited(shown: Shown, layer: Layer) -> None:
    """With a minus; every gradient follows."""
    tab_to(shown, "kernel:0,0,0")
    assert press(shown, "ArrowDown", "-", "4", "2", "Enter") == "kernel:0,1,0"
    operands = layer.operands()
    operands["kernel"][0, 1, 0] = -42
    for name, expected in layer.grids(operands).items():
        assert shown.numbers(name) == expected.flatten().tolist()
    shown.page.locator("[data-cell='grad_input:0,0,2']").hover()
    assert "*(-42)" in shown.text(".numbers")
    shown.page.get_by_role("button", name="numbers 1, 2, 3 again").click()
    for name, expected in layer.grids().items():
        assert shown.numbers(name) == expected.flatten().tolist()


@pytest.mark.usefixtures("layer")
def test_escape_leaves_a_number_as_it_was(shown: Shown) -> None:
    tab_to(shown, "grad_output:0,0,0")
    assert press(shown, "7", "7", "Escape") == "grad_output:0,0,0"
    assert shown.numbers("grad_output")[0] == 1
    press(shown, "F2")
    assert shown.page.locator(".editing input").input_value() == "1"


@pytest.mark.usefixtures("layer")
def test_what_is_no_number_is_refused(shown: Shown) -> None:
    tab_to(shown, "input:0,0,0")
    assert press(shown, "1", "x", "Enter") == "input:0,0,0"
    assert shown.numbers("input")[0] == 1
    assert shown.text(".faults") == (
        "input[0,0] must be a whole number from -99 to 99, but got '1x'."
    )


@pytest.mark.usefixtures("layer")
def test_results_cannot_be_edited(shown: Shown) -> None:
    tab_to(shown, "output:0,0,0")
    press(shown, "5")
    assert shown.page.locator(".editing").count() == 0
    assert shown.page.locator("[data-grid=output] table").get_attribute("aria-readonly") == "true"


@pytest.mark.usefixtures("layer")
def test_leaving_the_field_keeps_the_number(shown: Shown) -> None:
    shown.page.locator("[data-cell='kernel:0,0,1']").dblclick()
    shown.page.locator(".editing input").fill("9")
    shown.page.locator("h1").click()
    assert shown.numbers("kernel")[1] == 9


@pytest.mark.usefixtures("layer")
def test_a_field_that_is_left_does_not_take_the_focus_back(shown: Shown) -> None:
    shown.page.locator("[data-cell='kernel:0,0,1']").dblclick()
    shown.page.locator(".editing input").fill("9")
    shown.page.locator("[name='rows.kernel']").focus()
    assert shown.page.evaluate("document.activeElement.name") == "rows.kernel"
    assert shown.numbers("kernel")[1] == 9


def test_the_pointer_lights_and_leaves(shown: Shown, layer: Layer) -> None:
    shown.page.locator("[data-cell='grad_weight:0,1,1']").hover()
    lit = {cell.get_attribute("data-cell") for cell in shown.page.locator(".lit").all()}
    assert lit == layer.lit_by("grad_weight:0,1,1")
    shown.page.locator("h1").hover()
    assert shown.page.locator(".lit").count() == 0


@pytest.mark.usefixtures("layer")
def test_the_pointer_does_not_move_the_focus(shown: Shown) -> None:
    tab_to(shown, "kernel:0,0,0")
    shown.page.locator("[data-cell='grad_weight:0,1,1']").hover()
    assert shown.focused() == "kernel:0,0,0"
    shown.page.locator("h1").hover()
    assert shown.page.locator(".active").get_attribute("data-cell") == "kernel:0,0,0"


def test_a_tap_pins(browser: Browser, shown: Shown) -> None:
    context = browser.new_context(has_touch=True, viewport={"width": 360, "height": 640})
    page = context.new_page()
    page.goto(f"file://{shown.file}")
    page.locator("[data-cell='output:0,0,1']").tap()
    assert page.locator(".pinned").get_attribute("data-cell") == "output:0,0,1"
    assert page.locator(".symbols").inner_text().startswith("output[0,1] = ")
    context.close()
