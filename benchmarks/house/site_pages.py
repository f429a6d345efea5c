"""Pages of the site that lie outside docs/ (README, CONTRIBUTING, changelog, notebooks), and what a package exports.

A hook of mkdocs, named in mkdocs.yml. In the repository a link leads to the file itself, in the site to its page; the
line `::: package` of a page of the API becomes an entry for every name in the package's `__all__`.
"""

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OUTSIDE = {
    **{ROOT / "README.md": "readme.md", ROOT / "CONTRIBUTING.md": "contributing.md"},
    ROOT / "CHANGELOG.md": "changelog.md",
    **{path: f"examples/{path.stem}.md" for path in sorted((ROOT / "examples").glob("*.ipynb"))},
}
SOURCES = {page: path for path, page in OUTSIDE.items()}
FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")
PACKAGE = re.compile(r"^::: (\w+)$", re.MULTILINE)
KINDS = {"Functions": ast.FunctionDef, "Classes": ast.ClassDef, "Constants, types and modules": ast.AST}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file outside docs/, a notebook's with its outputs."""
    for path, page in OUTSIDE.items():
        text = markdown_of(json.loads(path.read_text())) if path.suffix == ".ipynb" else path.read_text()
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead a page's links to pages of the site, and spell out the packages that it names; code is left as it is."""
    markdown = PACKAGE.sub(lambda line: entries(line[1]), markdown)
    parts = FENCED.split(markdown)
    return "".join(part if k % 2 else linked(part, page.file.src_uri) for k, part in enumerate(parts))


def linked(text: str, page: str) -> str:
    """A page's text with every relative link as the site needs it.

    Args:
        text: Markdown without blocks of code, with links as they hold in the repository.
        page: the page in the site, `guides/python.md`.

    Returns:
        the text with links from page to page; what leads to no page is left for mkdocs to refuse.
    """
    folder = SOURCES.get(page, DOCS / page).parent

    def lead(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / link[1]))
        place = OUTSIDE.get(target) or (target.relative_to(DOCS).as_posix() if target.is_relative_to(DOCS) else None)
        if place is None:
            return link[0]
        return f"]({os.path.relpath(place, Path(page).parent)}{link[2] or ''})"

    return LINK.sub(lead, text)


def entries(package: str) -> str:
    """The headings and mkdocstrings' lines of all that a package exports, by its kind.

    A line names where a thing is defined, not where it is exported: a function may bear the name of its module.
    """
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    exported = next(each.value for each in tree.body if isinstance(each, ast.Assign) and _named(each) == "__all__")
    found: dict[str, list[str]] = {kind: [] for kind in (*KINDS, "Errors")}
    for name in ast.literal_eval(exported):
        path, node = origin(package, name)
        kind = next(kind for kind, sort in KINDS.items() if isinstance(node, sort))
        found["Errors" if path.split(".")[1] == "errors" else kind].append(path)
    parts = [(kind, "\n\n".join(f"::: {path}" for path in paths)) for kind, paths in found.items() if paths]
    return "\n\n".join(f"## {kind}\n\n{lines}" for kind, lines in parts)


def origin(module: str, name: str) -> tuple[str, ast.AST]:
    """Where a name of a module is defined, as a dotted path, and what stands there; a module is found as itself."""
    path = ROOT / module.replace(".", "/")
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and name in {each.name for each in node.names}:
            return (f"{module}.{name}", tree) if node.module == module else origin(node.module, name)
        if _named(node) == name:
            return f"{module}.{name}", node
    raise ValueError(f"{module} exports {name!r}, which nothing in it defines or imports")


def _named(node: ast.AST) -> str:
    """The name that a statement defines; empty where it defines none."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    return ""


def markdown_of(notebook: dict[str, Any]) -> str:
    """A notebook as Markdown: its text, its code, and what the code printed or drew."""
    return "\n\n".join(text for cell in notebook["cells"] for text in _cell(cell)) + "\n"


def _cell(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    pictures = [_text_of(each["data"]["image/png"]) for each in cell["outputs"] if "image/png" in each.get("data", {})]
    printed = "".join(_text_of(each["text"]) for each in cell["outputs"] if each["output_type"] == "stream")
    shown = [f"![what the code above draws](data:image/png;base64,{picture.strip()})" for picture in pictures]
    return [f"```python\n{source}\n```", *shown, *([f"```text\n{printed.rstrip()}\n```"] if printed else [])]


def _text_of(lines: str | list[str]) -> str:
    return "".join(lines)
