"""Steps of a pass: gathered result by result, or scattered operand by operand."""

from __future__ import annotations

from math import nan

import pytest
import torch
from conftest import Shown
from layers import NAMED, Grids, Layer

PASSES = ("output", "grad_input", "grad_weight", "grad_bias")
SCATTERED = {"output": "input"}  # the others take grad_output
LAYERS = ("axes_differ", "sides_differ", "groups", "channels_and_filters")


def after(layer: Layer, name: str, order: str, step: int) -> list[float]:
    """A pass is linear: scattered, it is the pass of an operand whose other numbers are zero."""
    grids = layer.grids()
    if order == "gather":
        done = grids[name].flatten().clone()
        done[step:] = nan
        return done.tolist()
    operands: Grids = layer.operands()
    taken = SCATTERED.get(name, "grad_output")
    operands[taken].view(-1)[step:] = 0
    return layer.grids(operands)[name].flatten().tolist()


def seen(shown: Shown, name: str) -> list[float]:
    return [nan if text == "·" else float(text) for text in shown.cells(name)]


def steps_of(layer: Layer, name: str, order: str) -> int:
    taken = name if order == "gather" else SCATTERED.get(name, "grad_output")
    return layer.grids()[taken].numel()


def scrub(shown: Shown, step: int) -> None:
    shown.page.locator("[name=step]").fill(str(step))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("order", ["gather", "scatter"])
@pytest.mark.parametrize("name", PASSES)
def test_scrubbing_sums_up_to_the_pass(shown: Shown, name: str, order: str, layer: str) -> None:
    steps = steps_of(NAMED[layer], name, order)
    shown.open(NAMED[layer].link(**{"pass": name, "order": order}))
    for step in sorted({0, 1, steps // 2, steps - 1, steps}):
        scrub(shown, step)
        expected = torch.tensor(after(NAMED[layer], name, order, step))
        found = torch.tensor(seen(shown, name))
        assert torch.equal(found.nan_to_num(-0.5), expected.nan_to_num(-0.5)), step
        assert shown.text(".scrub .value") == f"{step} of {steps}"


def test_only_the_pass_that_runs_is_in_parts(shown: Shown) -> None:
    layer = NAMED["axes_differ"]
    shown.open(layer.link(step=2))
    for name in ("output", "grad_weight", "grad_bias"):
        assert shown.numbers(name) == layer.grids()[name].flatten().tolist()


def test_a_scattered_step_adds_a_shifted_kernel(shown: Shown) -> None:
    """Output 1 of the 4x4 image, stride 2, has the gradient 2 and read columns 2 and 3."""
    shown.open(NAMED["the_4x4_image"].link(order="scatter", step=2))
    assert shown.text(".symbols") == "grad_input += grad_output[0,1] * kernel, shifted"
    assert shown.text(".numbers").strip() == (
        "grad_input[0,2] += 2*1, grad_input[0,3] += 2*2, "
        "grad_input[1,2] += 2*3, grad_input[1,3] += 2*4"
    )
    assert seen(shown, "grad_input")[:8] == [1, 2, 2, 4, 3, 4, 6, 8]


@pytest.mark.parametrize(
    ("name", "symbols"),
    [
        ("grad_weight", "grad_weight += grad_output[0,1] * the patch of input that it met"),
        ("output", "output += input[0,1] * the flipped kernel, shifted"),
        ("grad_bias", "grad_bias += grad_output[0,1] * 1"),
    ],
)
def test_a_scattered_step_of_the_other_passes(shown: Shown, name: str, symbols: str) -> None:
    shown.open(NAMED["the_4x4_image"].link(order="scatter", step=2, **{"pass": name}))
    assert shown.text(".symbols") == symbols


def test_the_step_lights_its_cell(shown: Shown) -> None:
    shown.open(NAMED["the_4x4_image"].link(step=3))
    assert shown.page.locator(".active").get_attribute("data-cell") == "grad_input:0,0,2"


def test_buttons_go_one_step(shown: Shown) -> None:
    shown.open(NAMED["the_4x4_image"].link())
    page = shown.page
    assert shown.text(".scrub .value") == "16 of 16"
    assert page.get_by_role("button", name="one step on").is_disabled()
    page.get_by_role("button", name="one step back").click()
    assert shown.text(".scrub .value") == "15 of 16"
    page.get_by_role("button", name="one step on").click()
    assert shown.text(".scrub .value") == "16 of 16"
    scrub(shown, 0)
    assert page.get_by_role("button", name="one step back").is_disabled()


def test_play_runs_to_the_end_at_the_speed_chosen(timed: Shown) -> None:
    timed.open(NAMED["the_4x4_image"].link(speed="fast"))
    timed.page.get_by_role("button", name="play").click()
    assert timed.text(".scrub .value") == "0 of 16"
    assert timed.page.locator("#formula").get_attribute("aria-live") == "off"
    timed.page.clock.run_for(200 * 5)
    assert timed.text(".scrub .value") == "5 of 16"
    timed.page.clock.run_for(200 * 11)
    assert timed.text(".scrub .value") == "16 of 16"
    assert timed.page.get_by_role("button", name="play").is_visible()
    assert timed.page.locator("#formula").get_attribute("aria-live") == "polite"
    assert (
        timed.numbers("grad_input")
        == NAMED["the_4x4_image"].grids()["grad_input"].flatten().tolist()
    )


def test_pause_stops_it(timed: Shown) -> None:
    timed.open(NAMED["the_4x4_image"].link(speed="slow"))
    timed.page.get_by_role("button", name="play").click()
    timed.page.clock.run_for(1500 * 2)
    timed.page.get_by_role("button", name="pause").click()
    timed.page.clock.run_for(1500 * 5)
    assert timed.text(".scrub .value") == "2 of 16"
