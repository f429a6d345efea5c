"""Entries of docstrings that explain several names, `a, b: numbers.`, taken apart for the pages of the API.

An extension of griffe, named in mkdocs.yml: each name then gets its own line with its type.
"""

import re
from typing import Any

from griffe import Extension, Object

ENTRY = re.compile(r"^(?P<indent> {4})(?P<names>\w+(?:, \w+)+): (?P<text>.*(?:\n {5,}.*)*)", re.MULTILINE)


class SeparateEntries(Extension):
    """Entries of several names become one entry for each, wherever a docstring is read."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite an object's docstring, which griffe has collected and not parsed yet."""
        if obj.docstring:
            obj.docstring.value = separated(obj.docstring.value)


def separated(docstring: str) -> str:
    """A docstring with one entry for every name."""

    def each(entry: re.Match[str]) -> str:
        return "\n".join(f"{entry['indent']}{name}: {entry['text']}" for name in entry["names"].split(", "))

    return ENTRY.sub(each, docstring)
