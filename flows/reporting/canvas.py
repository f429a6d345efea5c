"""Blank figures, with matplotlib imported when the first one is asked for: it takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def blank_figure(width: float, height: float) -> Figure:
    """A figure without anything on it, width and height in inches, whose panels make room for each other's labels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
