"""What the page looks like: to eyes, to a screen reader, on a phone, without JavaScript."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from conftest import Shown
from layers import NAMED
from playwright.sync_api import Browser

axe_playwright = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python"
)
STATES = {
    "as_it_opens": "",
    "pinned": "pin=grad_input:0,2,3&zeros=1",
    "channels": NAMED["channels_and_filters"].link(order="scatter", step=3),
    "impossible": "input=1&kernel=7",
    "the_largest": NAMED["most_of_all"].link(pin="kernel:0,3,3", zeros=1),
}
THEMES = ("light", "dark")


# The largest has no element that others lack, and takes axe longer than all of them.
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("state", [state for state in STATES if state != "the_largest"])
def test_axe_finds_nothing(shown: Shown, state: str, theme: str) -> None:
    shown.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    shown.open(STATES[state])
    found = axe_playwright.Axe().run(shown.page).response
    assert [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []
    assert len(found["passes"]) > 15


@pytest.mark.parametrize("state", STATES)
def test_the_page_does_not_scroll_sideways(shown: Shown, state: str, tmp_path: Path) -> None:
    """Pictures of each width and theme are kept beside the test's other files, to be looked at."""
    shown.open(STATES[state])
    for width, theme in itertools.product((360, 768, 1280), THEMES):
        shown.page.emulate_media(color_scheme=theme)
        shown.page.set_viewport_size({"width": width, "height": 800})
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        picture = tmp_path / f"{state}_{width}_{theme}.png"
        assert len(shown.page.screenshot(path=picture, full_page=True)) > 5000


def test_themes_differ_and_numbers_stay_legible(shown: Shown) -> None:
    """axe measures the contrast; here, that dark is dark."""
    shown.open()
    colours = set()
    for theme in THEMES:
        shown.page.emulate_media(color_scheme=theme)
        colours.add(shown.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2


def test_lit_cells_stand_out_in_forced_colours(shown: Shown) -> None:
    shown.page.emulate_media(forced_colors="active")
    shown.open("pin=grad_input:0,2,3")
    background = "e => getComputedStyle(e).backgroundColor"
    lit = shown.page.locator(".lit").first.evaluate(background)
    assert lit != shown.page.locator("[data-cell]:not(.lit)").first.evaluate(background)


@pytest.mark.parametrize(("motion", "has_motion"), [("reduce", False), ("no-preference", True)])
def test_reduced_motion(shown: Shown, motion: str, has_motion: bool) -> None:
    shown.page.emulate_media(reduced_motion=motion)
    shown.open()
    seconds = shown.page.locator("[data-cell]").first.evaluate(
        "e => getComputedStyle(e).transitionDuration"
    )
    assert (seconds != "0s") is has_motion


def test_grids_are_grids(shown: Shown) -> None:
    shown.open()
    tree = shown.page.locator("#page").aria_snapshot()
    for name in (
        "input",
        "kernel",
        "output",
        "grad_output",
        "grad_input",
        "grad_weight",
        "grad_bias",
    ):
        assert f'grid "{name}"' in tree
    assert shown.page.get_by_role("status").get_attribute("aria-live") == "polite"


def test_without_javascript_there_are_numbers_and_formulas(browser: Browser, shown: Shown) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{shown.file}")
    tables = page.locator("noscript table")
    grids = NAMED["axes_differ"].grids()
    assert tables.count() == 7
    for table in tables.all():
        name = table.locator("caption").inner_text()
        cells = [cell.inner_text() for cell in table.locator("td").all()]
        numbers = [float(text.rstrip("abcdefgh\n")) for text in cells]
        assert numbers == grids[name].flatten().tolist()
    assert "grad_weight[k] = sum over o of" in page.locator("noscript pre").inner_text()
    context.close()
