"""A run as one HTML page: headings, tables, pictures. It needs no other file and no network."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: .8rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { background: var(--soft); } td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } figcaption { font-size: .9rem; opacity: .8; }
img { max-width: 100%; background: #fff; padding: 4px; border-radius: 4px; }
pre, code { background: var(--soft); border-radius: 3px; }
pre { padding: .7rem; overflow-x: auto; white-space: pre-wrap; }
""".strip()


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
    body = "\n".join(_section(section) for section in sections if section.parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{STYLE}\n</style>\n</head>\n'
        f"<body>\n<h1>{escape(title)}</h1>\n<p>{escape(lead)}</p>\n{body}\n</body>\n</html>\n"
    )


def figure_png(figure: Figure) -> bytes:
    """A figure as PNG, the same bytes for the same figure."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def pixels_png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels [height, width, 3] as PNG."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def _section(section: Section) -> str:
    parts = "\n".join(_part(part) for part in section.parts)
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{parts}\n</section>"


def _part(part: str | Table | Picture | Command) -> str:
    match part:
        case str():
            return f"<p>{escape(part)}</p>"
        case Command(text):
            return f"<pre>{escape(text)}</pre>"
        case Picture(caption, png):
            source = base64.b64encode(png).decode("ascii")
            words = escape(caption)
            return (
                f'<figure><img alt="{words}" src="data:image/png;base64,{source}">'
                f"<figcaption>{words}</figcaption></figure>"
            )
        case Table(columns, rows):
            head = "".join(f"<th>{escape(name)}</th>" for name in columns)
            lines = "\n".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
            return f'<div class="wide"><table>\n<tr>{head}</tr>\n{lines}\n</table></div>'


def _cell(value: object) -> str:
    match value:
        case None:
            return '<td class="number">-</td>'
        case bool():
            return f"<td>{'yes' if value else 'no'}</td>"
        case int():
            return f'<td class="number">{value}</td>'
        case float():
            return f'<td class="number">{value:.6g}</td>'
        case _:
            return f"<td>{escape(str(value))}</td>"
