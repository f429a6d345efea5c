"""Pages of the site that lie outside docs/: README, CONTRIBUTING, the changelog and the notebooks.

A hook of mkdocs, named in mkdocs.yml. In the repository a link leads to the file itself, in the site to its page.
"""

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


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file outside docs/, a notebook's with its outputs."""
    for path, page in OUTSIDE.items():
        text = markdown_of(json.loads(path.read_text())) if path.suffix == ".ipynb" else path.read_text()
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead a page's links to pages of the site; code is left as it is."""
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
