"""A browser for the page: Debian's Chromium, driven by Playwright, with every request refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

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
        page.on("console", lambda message: self.faults.append(message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda request: self.asked_for(request.url))
        page.goto(f"file://{file}")

    def asked_for(self, url: str) -> None:
        if not url.startswith(f"file://{self.file}"):
            self.faults.append(url)

    def open(self, link: str) -> None:
        """Follows a link to another state of the page."""
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
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
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


@pytest.fixture
def shown(browser: sync_api.Browser, file: Path) -> Iterator[Shown]:
    """Fails for a message in the console, an error, or a request for anything but the file."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.route(lambda url: not url.startswith("file:"), lambda route: route.abort())
    shown = Shown(context.new_page(), file)
    yield shown
    context.close()
    assert shown.faults == []
