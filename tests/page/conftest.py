"""A browser for the page: Debian's Chromium, driven by Playwright, with every request refused."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from layers import NAMED

from convgrad_ext.__main__ import main

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Shown:
    """The page in the browser."""

    def __init__(self, page: sync_api.Page, file: Path) -> None:
        self.page, self.file = page, file
        self.faults: list[str] = []
        self.listeners = {
            "console": lambda message: self.faults.append(message.text),
            "pageerror": lambda error: self.faults.append(str(error)),
            "request": lambda request: self.asked_for(request.url),
        }
        for event, listener in self.listeners.items():
            page.on(event, listener)

    def close(self) -> None:
        for event, listener in self.listeners.items():
            self.page.remove_listener(event, listener)

    def asked_for(self, url: str) -> None:
        if url != "about:blank" and not url.startswith(f"file://{self.file}"):
            self.faults.append(url)

    def open(self, link: str = "") -> None:
        """Opens the page anew, in the state of a link."""
        self.page.goto("about:blank")
        self.page.goto(f"file://{self.file}#{link}")

    def cells(self, grid: str) -> list[str]:
        """What its cells show, letters of phases left out."""
        return self.page.evaluate(
            "grid => [...document.querySelectorAll(`[data-cell^='${grid}:']`)]"
            ".map(cell => [...cell.childNodes].find(n => n.nodeType === 3).data)",
            grid,
        )

    def numbers(self, grid: str) -> list[float]:
        return [float(text) for text in self.cells(grid)]

    def numbers_of_zeros(self) -> list[float]:
        return [float(text) for text in self.page.locator(".zeros td").all_inner_texts()]

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def focused(self) -> str | None:
        return self.page.evaluate("document.activeElement.dataset.cell")


@pytest.fixture(scope="session")
def browser() -> Iterator[sync_api.Browser]:
    if CHROMIUM is None:
        pytest.skip("needs a browser: install it with `apt-get install chromium`")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "layer.html"
    layer = NAMED["axes_differ"]
    arguments = ["explain", "--output", str(path)]
    for name in ("input", "kernel", "stride", "dilation"):
        arguments += [f"--{name}", *(str(getattr(axis, name)) for axis in layer.axes)]
    arguments += ["--padding", *(str(axis.before) for axis in layer.axes)]
    assert main(arguments) == 0
    return path


@pytest.fixture(scope="session")
def page(browser: sync_api.Browser) -> Iterator[sync_api.Page]:
    """One window of the browser for all tests, because a new one takes longer than most of them."""
    with window(browser) as page:
        yield page


@contextlib.contextmanager
def window(browser: sync_api.Browser, **options: Any) -> Iterator[sync_api.Page]:
    context = browser.new_context(
        permissions=["clipboard-read", "clipboard-write"], reduced_motion="reduce", **options
    )
    context.route(lambda url: not url.startswith("file:"), lambda route: route.abort())
    yield context.new_page()
    context.close()


@pytest.fixture
def shown(page: sync_api.Page, file: Path) -> Iterator[Shown]:
    """Fails for a message in the console, an error, or a request for anything but the file."""
    page.emulate_media(color_scheme="light", reduced_motion="reduce", forced_colors="none")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.mouse.move(0, 0)
    shown = Shown(page, file)
    yield shown
    shown.close()
    assert shown.faults == []


@pytest.fixture
def timed(browser: sync_api.Browser, file: Path) -> Iterator[Shown]:
    """The same in a window of its own, whose clock stands still."""
    with window(browser) as page:
        page.clock.install(time=0)
        page.clock.pause_at(1000)
        yield Shown(page, file)
