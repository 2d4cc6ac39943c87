"""A Sphinx extension: formulas become MathML when the site is built, so a browser needs no script.

latex2mathml shows what it does not understand as text, and closes what is left open. Here each of
these is an error. ``\\tag{1}`` numbers a formula, and each ``(1)`` on its page is a link to it.
"""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml import commands
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.transforms import SphinxTransform

ENVIRONMENTS = {name.removeprefix("\\") for name in commands.MATRICES}
CHILDREN = {
    "mfrac": 2,
    "mover": 2,
    "msub": 2,
    "msubsup": 3,
    "msup": 2,
    "munder": 2,
    "munderover": 3,
}
NO_PROSE = (nodes.FixedTextElement, nodes.literal, nodes.math, nodes.reference)

BRACES = re.compile(r"(?<!\\)(?:\\\\)*[{}]")
TAG = re.compile(r"\s*\\tag\{(\w+)\}")
WORD = re.compile(r"\\mathrm\{((?:[a-zA-Z0-9]|\\_){2,})\}")
MATRIX = re.compile(r"\\begin\{(\wmatrix)\}.*?\\end\{\1\}", re.DOTALL)


def mathml(latex: str, display: str) -> str:
    """The formula as a `math` element, "inline" or "block".

    Raises:
        ValueError: "\\foo is unknown", and others that name what is wrong with the formula.
    """
    check_latex(latex)
    try:
        element = convert(grouped(latex), display=display)
        check_mathml(ElementTree.fromstring(element))
    except ElementTree.ParseError:
        raise ValueError("an & is outside of an environment") from None
    except ValueError:
        raise
    except Exception as error:  # latex2mathml's own have no common base
        raise ValueError(type(error).__name__) from error
    return element


def grouped(latex: str) -> str:
    """A word of several letters is one element, and brackets are as high as their own matrix."""
    words = WORD.sub(lambda word: rf"\text{{{word[1]}}}".replace(r"\_", "_"), latex)
    return MATRIX.sub(r"{\g<0>}", words)


def check_latex(latex: str) -> None:
    depth = 0
    for brace in BRACES.findall(latex):
        depth += 1 if brace.endswith("{") else -1
        if depth < 0:
            break
    if depth != 0:
        raise ValueError("a brace has no partner")
    unknown = set(re.findall(r"\\(?:begin|end)\{([^}]*)\}", latex)) - ENVIRONMENTS
    if unknown:
        raise ValueError(f"the environment {', '.join(sorted(unknown))} is unknown")


def check_mathml(element: ElementTree.Element) -> None:
    for part in element.iter():
        name, text = part.tag.rpartition("}")[2], part.text or ""
        if "\\" in text:
            raise ValueError(f"{text} is unknown")
        if len(part) != CHILDREN.get(name, len(part)):
            raise ValueError(f"{name} lacks an operand")


class NumberedFormulas(SphinxTransform):
    """Numbers of formulas become targets, and mentions of them links."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        blocks = list(self.document.findall(nodes.math_block))
        numbers = [self.number(block) for block in blocks]
        if not any(numbers):
            return
        mention = re.compile(rf"\(({'|'.join(filter(None, numbers))})\)")
        for text in list(self.document.findall(nodes.Text)):
            if not isinstance(text.parent, NO_PROSE):
                text.parent.replace(text, with_links(text, mention))

    def number(self, block: nodes.math_block) -> str:
        """The number of a tag, which the block keeps in the place of the tag; or nothing."""
        tag = TAG.search(block.astext())
        if tag is None:
            return ""
        block[:] = [nodes.Text(TAG.sub("", block.astext()))]
        block["tag"] = tag[1]
        target = nodes.target(ids=[f"equation-{tag[1]}"])
        block.parent.insert(block.parent.index(block), target)
        return tag[1]


def with_links(text: nodes.Text, mention: re.Pattern[str]) -> list[nodes.Node]:
    """The text in parts: those between mentions, and the mentions as links."""
    parts: list[nodes.Node] = []
    for i, part in enumerate(mention.split(text.astext())):
        if i % 2:
            parts.append(nodes.reference("", f"({part})", refid=f"equation-{part}", internal=True))
        elif part:
            parts.append(nodes.Text(part))
    return parts


def visit_inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(formula(node, "inline"))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append('<div class="math">')
    if "tag" in node:
        translator.body.append(f'<span class="eqno">({node["tag"]})</span>')
    translator.body.append(formula(node, "block") + "</div>\n")
    raise nodes.SkipNode


def formula(node: nodes.Element, display: str) -> str:
    try:
        return mathml(node.astext(), display)
    except ValueError as error:
        raise SphinxError(f"{node.source}:{node.line}: {error}: {node.astext()}") from error


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(NumberedFormulas)
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
