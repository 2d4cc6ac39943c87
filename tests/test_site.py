"""The site of `make docs`: formulas, the API page, links, and that a reader needs no network."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

import convgrad_ext
from convgrad_ext import arguments

DOCS = Path(__file__).parents[1] / "docs"
API = (DOCS / "api.md").read_text()
DIRECTIVE = re.compile(r"^\.\. auto(?:class|function):: (\S+)$", re.MULTILINE)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


build, mathml = load("build"), load("mathml")


@pytest.mark.parametrize(
    ("latex", "elements"),
    [
        (r"\frac{a}{b}", "<mfrac><mrow><mi>a</mi></mrow><mrow><mi>b</mi></mrow></mfrac>"),
        (r"\mathrm{grad\_output}[o]", "<mtext>grad_output</mtext>"),
        (r"\begin{split} a &= b \\ &= c \end{split}", '<mtd columnalign="right"><mi>a</mi></mtd>'),
        (
            r"\begin{bmatrix} 1 \end{bmatrix}",
            "<mrow><mo>&#x0005B;</mo><mtable><mtr><mtd><mn>1</mn></mtd></mtr></mtable>",
        ),
    ],
)
def test_a_formula_becomes_mathml(latex: str, elements: str) -> None:
    assert elements in mathml.mathml(latex, "block")


@pytest.mark.parametrize(
    ("latex", "message"),
    [
        (r"\foo x", r"\\foo is unknown"),
        (r"\begin{aligned} a \end{aligned}", "the environment aligned is unknown"),
        (r"a & b", "an & is outside"),
        (r"\frac{1", "a brace has no partner"),
        (r"a}{b", "a brace has no partner"),
        (r"\frac{1}", "mfrac lacks an operand"),
        (r"a_b_c", "DoubleSubscriptsError"),
    ],
)
def test_a_formula_that_is_not_understood_is_an_error(latex: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mathml.mathml(latex, "block")


def test_brackets_stretch_with_their_own_matrix() -> None:
    matrix = r"\begin{bmatrix} 1 \end{bmatrix}"
    assert mathml.grouped(f"{matrix} {matrix}") == f"{{{matrix}}} {{{matrix}}}"


PAGE = """\
# A page

```math
a = b \\tag{1}
```

$$
c = d
$$

By (1) but not by (2) and not by `(1)`, $e^2$.
"""


def sphinx(folder: Path, page: str) -> subprocess.CompletedProcess[str]:
    """Sphinx on one page, with the site's settings for formulas."""
    (folder / "index.md").write_text(page)
    (folder / "conf.py").write_text(
        f"import sys; sys.path.insert(0, {str(DOCS)!r})\n"
        'extensions = ["mathml", "myst_parser"]\n'
        'html_math_renderer = "mathml"\n'
        'html_theme = "furo"\n'
        'myst_enable_extensions = ["dollarmath"]\n'
        'myst_fence_as_directive = ["math"]\n'
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", str(folder), str(folder / "html")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_numbers_of_formulas_are_links_on_their_page(tmp_path: Path) -> None:
    result = sphinx(tmp_path, PAGE)
    assert result.stderr == ""
    html = (tmp_path / "html" / "index.html").read_text()
    assert html.count('id="equation-1"') == 1
    assert html.index('id="equation-1"') < html.index('<span class="eqno">(1)</span><math')
    assert html.count('href="#equation-1"') == 1
    assert html.count("<math") == 3
    assert "(2)" in html
    assert "\\tag" not in html
    assert build.loaded_by(html) == []  # MathJax, say


def test_a_build_names_the_page_of_a_wrong_formula(tmp_path: Path) -> None:
    result = sphinx(tmp_path, "# A page\n\n$a + \\foo$\n")
    assert result.returncode != 0
    assert "index.md:3: \\foo is unknown: a + \\foo" in result.stderr


def test_every_public_name_is_on_the_api_page() -> None:
    documented = DIRECTIVE.findall(API)
    public = [f"convgrad_ext.{name}" for name in convgrad_ext.__all__]
    assert set(public) <= set(documented)
    assert len(documented) == len(set(documented))


@pytest.mark.parametrize("name", ["IntOrPair", "PaddingLike"])
def test_the_api_page_defines_a_type_as_the_code_does(name: str) -> None:
    line = re.search(rf"py:type:: convgrad_ext.arguments.{name}\n   :canonical: (.+)", API)
    assert eval(line[1], {"Sequence": Sequence}) == getattr(arguments, name)


def test_every_page_is_in_the_contents() -> None:
    index = build.with_links_of_the_site((DOCS / "index.md").read_text(), DOCS / "index.md")
    listed = re.findall(r"<(.+\.md)>", "\n".join(build.contents(index)))
    assert sorted(listed) == sorted({*build.pages().values()} - {"index.md"})


@pytest.mark.parametrize(
    ("link", "on_the_site"),
    [
        ("[the page](tile.md#packing)", "[the page](tile.md#packing)"),
        ("[rules](../CONTRIBUTING.md)", "[rules](contributing.md)"),
        ("[`axis.h`](../csrc/geometry/axis.h)", "`axis.h`"),
        ("[the code](gradients.py)", "`the code`"),
        ("[there](https://example.org/a.md)", "[there](https://example.org/a.md)"),
        ("[grad_input[2,3] = 69](page:pin=3)", "[grad_input[2,3] = 69](page:pin=3)"),
        ("![a picture](layer.png)", "![a picture](layer.png)"),
    ],
)
def test_links_of_a_copied_page(link: str, on_the_site: str) -> None:
    page = DOCS / "a_page.md"
    assert build.with_links_of_the_site(f"See {link}.", page) == f"See {on_the_site}."


def test_a_link_to_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"faq\.md: a link to nowhere\.md, which does not exist"):
        build.with_links_of_the_site("See [this](nowhere.md).", DOCS / "faq.md")


@pytest.mark.parametrize("page", ["gradients.md", "explore.md"])
def test_pages_show_the_layer_that_is_drawn(page: str) -> None:
    assert build.LAYER in (DOCS / page).read_text()


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://example.org/a.js"></script>',
        '<img src="//example.org/a.png">',
        '<link rel="stylesheet" href="http://example.org/a.css">',
        '<iframe src="https://example.org/"></iframe>',
        '<style>@import "https://example.org/a.css";</style>',
        '<p style="background: url(https://example.org/a.png)">',
        "<svg><use href='https://example.org/a.svg'/></svg>",
    ],
)
def test_what_a_browser_would_load_from_a_server_is_found(html: str) -> None:
    assert len(build.loaded_by(html)) == 1


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://example.org/">there</a>',
        '<img src="_images/layer.png"><link href="_static/furo.css" rel="stylesheet">',
        '<math xmlns="http://www.w3.org/1998/Math/MathML"></math>',
        "<p>https://example.org/ and url(https://example.org/a.png)</p>",
        "<style>a { background: url(data:image/png;base64,AA) }</style>",
    ],
)
def test_links_and_files_of_the_site_are_no_fault(html: str) -> None:
    assert build.loaded_by(html) == []


def test_faults_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "good.html").write_text("<p>text</p>")
    (tmp_path / "bad.html").write_text(f"<p>{build.ROOT}/setup.py</p>")
    (tmp_path / "bad.css").write_text("@import url(https://example.org/font.css);")
    assert list(build.faults_of(tmp_path)) == [
        "bad.css loads https://example.org/font.css",
        "bad.html contains a path of this machine",
    ]
