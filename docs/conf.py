"""Sphinx's settings for the site; ``make docs`` builds it, by docs/build.py."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

import convgrad_ext

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

project = "convgrad_ext"
author = "the convgrad_ext authors"
release = convgrad_ext.__version__

extensions = [
    "mathml",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
]

# Pages are Markdown as a code host shows it, and formulas as GitHub sets them.
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
# Links into the page that docs/explore.md frames.
myst_url_schemes = {"http": None, "https": None, "page": {"url": "layer.html#{{path}}"}}

# A reference that leads nowhere is an error; that of a type variable would lead to nothing more.
nitpicky = True
nitpick_ignore = [("py:class", "convgrad_ext.convert.Module")]
# Sphinx 8.1, the last for Python 3.10, does not find an alias where a class may stand.
ALIASES = {name: f"convgrad_ext.arguments.{name}" for name in ("IntOrPair", "PaddingLike")}
nitpick_ignore += [("py:class", alias) for alias in ALIASES.values()]

# Not those of torch.autograd.Function, which have roles of their own.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = ALIASES
maximum_signature_line_length = 60
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shapes"]
python_use_unqualified_type_names = True

# Made from docs/inventory by docs/build.py: a build asks no server for the names of others.
INVENTORIES = DOCS.parent / "build" / "docs" / "inventory"
intersphinx_mapping = {
    "python": ("https://docs.python.org/3/", str(INVENTORIES / "python.inv")),
    "torch": ("https://docs.pytorch.org/docs/stable/", str(INVENTORIES / "torch.inv")),
}

html_theme = "furo"
html_title = "convgrad_ext"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
pygments_dark_style = "github-dark"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
# A summary would be fetched, which a browser refuses for pages that come from no server.
html_show_search_summary = False


def highlight_examples(app: Sphinx, page: nodes.document) -> None:
    """Indented blocks have no language; those with Python's prompt show theirs."""
    for block in page.findall(nodes.literal_block):
        if block.astext().startswith(">>>"):
            block["language"] = "pycon"


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", highlight_examples)
