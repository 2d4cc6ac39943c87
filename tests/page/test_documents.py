"""Links of the documentation into the page: each opens at the number that it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Shown

DOCS = Path(__file__).parents[2] / "docs"
LINK = re.compile(r"\[((?:[^][]|\[[^][]*\])+)\]\(page:([^)]*)\)")
LINKS = [
    (document.name, text, link)
    for document in sorted(DOCS.glob("*.md"))
    for text, link in LINK.findall(document.read_text())
]


def test_pages_have_links() -> None:
    assert {"explore.md", "gradients.md"} <= {document for document, *_ in LINKS}


@pytest.mark.parametrize(("document", "text", "link"), LINKS)
def test_a_link_opens_at_its_cell(shown: Shown, document: str, text: str, link: str) -> None:
    shown.open(link)
    assert shown.text("[role=alert]") == ""
    if "pin=" in link:
        assert shown.page.locator(".pinned").count() == 1
    if " = " in text:
        name, number = text.replace("`", "").split(" = ")
        symbols, sum_ = shown.text(".symbols"), shown.text(".sum") or "= 0"
        assert symbols.startswith(f"{name} = ")
        assert sum_ == f"= {number}"
