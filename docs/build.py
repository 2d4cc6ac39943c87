"""Builds the site, build/docs/html, from the pages of this repository; `make docs` calls it.

The pages stay Markdown that a code host shows. Sphinx reads copies, in which links lead to other
pages of the site, and the table of docs/index.md is its table of contents. Nothing is downloaded,
and a page that would load something from a server is an error.
"""

from __future__ import annotations

import re
import shutil
import sys
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from sphinx.cmd.build import build_main

from convgrad_ext.__main__ import main as convgrad_ext_command

DOCS = Path(__file__).parent
ROOT = DOCS.parent
BUILD = ROOT / "build" / "docs"

# The pages that are not in docs/, and their names on the site.
ELSEWHERE = {
    ROOT / "CONTRIBUTING.md": "contributing.md",
    ROOT / "CHANGELOG.md": "changelog.md",
    ROOT / "benchmarks" / "README.md": "measuring.md",
}
# The layer that docs/gradients.md and docs/explore.md show.
LAYER = "--input 7 6 --kernel 3 2 --stride 2 1 --padding 1 --dilation 1 2"

LINK = re.compile(r"(?<!!)\[((?:[^][]|\[[^][]*\])+)\]\(([^)\s]+)\)")
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def main() -> int:
    source, html = BUILD / "source", BUILD / "html"
    shutil.rmtree(BUILD, ignore_errors=True)
    copy_pages(source)
    write_inventories(BUILD / "inventory")
    draw_layer(source / "layer.png")
    strict = ["-q", "-W", "--keep-going"]
    where = ["-c", str(DOCS), "-d", str(BUILD / "doctrees"), str(source), str(html)]
    status = build_main([*strict, *where])
    draw_layer(html / "layer.html")
    faults = list(faults_of(html))
    for fault in faults:
        print(fault, file=sys.stderr)
    return status or int(bool(faults))


def pages() -> dict[Path, str]:
    """The pages of the site: their files, and their names there."""
    return {**{page: page.name for page in sorted(DOCS.glob("*.md"))}, **ELSEWHERE}


def copy_pages(source: Path) -> None:
    source.mkdir(parents=True)
    for page, name in pages().items():
        text = with_links_of_the_site(page.read_text(encoding="utf-8"), page)
        if name == "index.md":
            text += "\n".join(contents(text))
        (source / name).write_text(text, encoding="utf-8")
    for picture in DOCS.glob("*.png"):
        shutil.copy(picture, source)


def with_links_of_the_site(markdown: str, page: Path) -> str:
    """The text of a page; a link to a file that is no page becomes the name of that file, as code.

    Raises:
        ValueError: for a link to a file that does not exist.
    """

    def replaced(link: re.Match[str]) -> str:
        text, target = link.groups()
        path, number_sign, heading = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return link[0]
        file = (page.parent / path).resolve()
        if file in pages():
            return f"[{text}]({pages()[file]}{number_sign}{heading})"
        if not file.exists():
            raise ValueError(f"{page}: a link to {target}, which does not exist")
        return f"`{text.strip('`')}`"

    return LINK.sub(replaced, markdown)


def contents(index: str) -> Iterator[str]:
    """The rows of the table of the index, as Sphinx's tables of contents."""
    for caption, entries in ROW.findall(index):
        yield from ("\n```{toctree}", ":hidden:", f":caption: {caption}", "")
        yield from (f"{text} <{target}>" for text, target in LINK.findall(entries))
        yield "```\n"


def write_inventories(folder: Path) -> None:
    """Names that others document, from the lists of docs/inventory, as Sphinx reads them."""
    folder.mkdir()
    for names in (DOCS / "inventory").glob("*.txt"):
        head = f"# Sphinx inventory version 2\n# Project: {names.stem}\n# Version:\n# zlib\n"
        body = zlib.compress(names.read_bytes())
        (folder / f"{names.stem}.inv").write_bytes(head.encode() + body)


def draw_layer(path: Path) -> None:
    status = convgrad_ext_command(["explain", *LAYER.split(), "--output", str(path)])
    if status != 0:
        raise RuntimeError(f"convgrad_ext explain did not write {path}")


def faults_of(html: Path) -> Iterator[str]:
    """What a reader without a network would miss, and paths of this machine."""
    for file in sorted(html.rglob("*")):
        if file.suffix not in {".html", ".css", ".js", ".inv"}:
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        name = file.relative_to(html)
        if file.suffix == ".html":
            yield from (f"{name} loads {url}" for url in loaded_by(text))
        if file.suffix == ".css":
            yield from (f"{name} loads {url}" for url in loaded_by_style(text))
        if str(ROOT) in text:
            yield f"{name} contains a path of this machine"


class Loaded(HTMLParser):
    """Collects the addresses that a browser loads to show a page; a link may lead anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            loads = name in {"src", "srcset", "poster", "data", "background"}
            loads |= name == "href" and tag not in {"a", "area"}
            if loads and value and is_remote(value):
                self.urls.append(value)
            if name == "style" and value:
                self.urls += loaded_by_style(value)

    def handle_data(self, text: str) -> None:
        if self.cdata_elem == "style":
            self.urls += loaded_by_style(text)


def loaded_by(html: str) -> list[str]:
    parser = Loaded()
    parser.feed(html)
    return parser.urls


def loaded_by_style(css: str) -> list[str]:
    urls = re.findall(r"""(?:@import|url\()\s*(?:url\()?["']?([^"')\s;]+)""", css)
    return [url for url in urls if is_remote(url)]


def is_remote(url: str) -> bool:
    return re.match(r"(https?:)?//", url.strip()) is not None


if __name__ == "__main__":
    sys.exit(main())
