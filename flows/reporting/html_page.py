"""A run as one HTML page: headings, tables, pictures. It needs no other file and no network."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # takes seconds to import


@dataclass(frozen=True)
class Table:
    """Rows of words and numbers below the columns' names; numbers are written with six digits."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Picture:
    """A PNG, with the words below it."""

    caption: str
    png: bytes

    @property
    def encoded(self) -> str:
        """The PNG in base 64, as a page holds it."""
        return base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class Command:
    """What to type."""

    text: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it: paragraphs (plain words), tables, pictures, commands."""

    title: str
    parts: Sequence[str | Table | Picture | Command]


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The page; whatever the words hold, it is shown as they are. Sections without parts are left out."""
    return _template().render(title=title, lead=lead, sections=sections)


def figure_png(figure: "Figure") -> bytes:
    """A figure as PNG, the same bytes for the same figure."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def pixels_png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels [height, width, 3] as PNG."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


@cache
def _template() -> Template:
    # Every word is escaped, and a name that is misspelt in the template is an error.
    loader = PackageLoader("flows.reporting", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.get_template("page.html.jinja")
