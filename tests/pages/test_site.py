"""The site: built strictly without network, every page in it, links as in the repository, a search from disk."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.ui.browser import browser

pytest.importorskip("mkdocs", reason="needs requirements-dev.txt")
docstring_entries = pytest.importorskip("benchmarks.house.docstring_entries")
site_pages = pytest.importorskip("benchmarks.house.site_pages")
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("critical_neurons", "formulation", "training", "tracing")
NOBODY = "http://127.0.0.1:9"  # a proxy where nobody listens: who asked for anything would fail
LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?((?:https?:)?//[^\s\">]+)|<link\b[^>]*href=\"?(https?:[^\s\">]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built once by the command of CONTRIBUTING."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    environment = {**os.environ, "http_proxy": NOBODY, "https_proxy": NOBODY, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return place


def test_every_page_is_in_the_site_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    for page in (*pages, *site_pages.OUTSIDE.values()):
        text = (site / page).with_suffix(".html").read_text()
        assert "<h1" in text
        assert LOADED.findall(text) == []


def test_what_would_be_loaded_from_elsewhere_is_found() -> None:
    assert LOADED.findall(
        '<a href="https://a.org"> <img alt="" src="//b.org/c.png"> <link href="https://d.org/e.css">'
    ) == [
        ("//b.org/c.png", ""),
        ("", "https://d.org/e.css"),
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_page_of_the_api_has_an_entry_for_every_exported_name(site: Path, package: str) -> None:
    shown = re.findall(r'<h3 id="([\w.]+)"', (site / "api" / f"{package}.html").read_text())
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    [names] = [ast.literal_eval(each.value) for each in tree.body if isinstance(each, ast.Assign)]
    assert sorted(name.rpartition(".")[2] for name in shown) == sorted(names)


def test_the_notebooks_are_shown_with_their_pictures(site: Path) -> None:
    for page in (page for page in site_pages.OUTSIDE.values() if page.startswith("examples/")):
        assert 'src="data:image/png;base64,' in (site / page).with_suffix(".html").read_text()


@pytest.mark.parametrize(
    ("page", "text", "led"),
    [
        ("index.md", "[a](../README.md#results)", "[a](readme.md#results)"),
        ("guides/running.md", "[a](../../README.md) [b](../refit.md)", "[a](../readme.md) [b](../refit.md)"),
        ("readme.md", "![a](docs/a.png) [b](docs/guides/b.md#c)", "![a](a.png) [b](guides/b.md#c)"),
        ("readme.md", "[a](examples/which_neurons_matter.ipynb)", "[a](examples/which_neurons_matter.md)"),
        ("examples/which_neurons_matter.md", "[a](../docs/refit.md)", "[a](../refit.md)"),
        (
            "refit.md",
            "[a](https://a.org/b) [c](#d) [e](../pyproject.toml)",
            "[a](https://a.org/b) [c](#d) [e](../pyproject.toml)",
        ),
    ],
)
def test_a_link_of_the_repository_becomes_one_of_the_site(page: str, text: str, led: str) -> None:
    assert site_pages.linked(text, page) == led


def test_a_name_that_its_module_bears_as_well_is_found_where_it_is_defined() -> None:
    assert site_pages.origin("formulation", "embed")[0] == "formulation.embed.embed"
    assert site_pages.origin("tracing", "ops")[0] == "tracing.ops"
    with pytest.raises(ValueError, match="nothing in it defines"):
        site_pages.origin("tracing", "nothing")


def test_an_entry_of_several_names_becomes_one_for_each() -> None:
    text = "Sum.\n\nArgs:\n    a, b: numbers\n        of any size.\n    c: said alone, b: not a name.\n"
    separated = "Sum.\n\nArgs:\n    a: numbers\n        of any size.\n    b: numbers\n        of any size.\n"
    assert docstring_entries.separated(text) == separated + "    c: said alone, b: not a name.\n"


def test_the_arguments_of_a_function_are_shown_with_their_types(site: Path) -> None:
    page = (site / "api" / "critical_neurons.html").read_text()
    shown = re.sub(r"<[^>]+>|\s+", " ", page[page.index('id="critical_neurons.pruned.prune"') :])
    for name in ("parameters", "multiply_adds", "latency"):
        assert re.search(rf"{name} +\( *float +\| +None", shown)


@pytest.mark.slow
def test_the_search_works_in_pages_opened_from_disk_and_asks_nobody(site: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as opened:
        page = opened.open((site / "guides" / "python.html").as_uri())
        # The index is read once the search is opened.
        page.locator("[data-md-component=search-query]").click()
        page.get_by_text("Type to start searching").wait_for()
        page.locator("[data-md-component=search-query]").press_sequentially("reduced cost")
        results = page.locator(".md-search-result__item")
        results.first.wait_for()
        assert results.filter(has_text="Reduced costs and ties").count() >= 1
        assert [address for address in opened.asked if not address.startswith(("file:", "data:"))] == []
