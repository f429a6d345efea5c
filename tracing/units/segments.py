"""Segments of a layout: whose units lie side by side on axis 1 of a value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NOBODY = ""  # the layer of entries that are no layer's units, such as pixels


@dataclass(frozen=True)
class Segment:
    """The units of one layer, side by side on axis 1, each as `span` entries."""

    layer: str
    units: int
    span: int = 1


Layout = tuple[Segment, ...]


def is_units(layout: Iterable[Segment]) -> bool:
    """Whether a layout has entries, all of which are some layer's units."""
    found = list(layout)
    return bool(found) and all(segment.layer != NOBODY for segment in found)


def lie_alike(first: Layout, second: Layout) -> bool:
    """Whether unit j of a segment of the one lies where unit j of one of the other does."""
    return [(each.units, each.span) for each in first] == [(each.units, each.span) for each in second]


def widened(layout: Layout, factor: int) -> Layout:
    """The layout of a value that has `factor` entries for each of these."""
    return tuple(Segment(each.layer, each.units, each.span * factor) for each in layout)
