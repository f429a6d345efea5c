"""Progress of long calls: whoever calls is told line by line, by a function of theirs such as `print`."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]


def silent(_line: str) -> None:
    """Tell nobody."""
