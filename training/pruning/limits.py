"""Limits of a selection, whatever the scores say: floors, round widths, layers to leave alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from numbers import Integral
from typing import TypeVar

from naming import did_you_mean
from training.errors import SelectionError

LimitValue = TypeVar("LimitValue")


@dataclass(frozen=True)
class Limits:
    """Bounds on what a rule may remove. Layers are named exactly or by a pattern such as `features.*`.

    Attributes:
        floor: how many units of a layer stay at least, for all layers or by layer (1 where none is named).
        round_to: kept widths are rounded up to a multiple of it, never above the layer's width.
        leave_alone: layers that keep all their units.

    Raises SelectionError where a number is below 1 or no whole number.
    """

    floor: int | Mapping[str, int] = 1
    round_to: int = 1
    leave_alone: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        floors = self.floor.values() if isinstance(self.floor, Mapping) else [self.floor]
        for name, values in (("floor", floors), ("round_to", [self.round_to])):
            for value in values:
                if not _whole(value):
                    raise SelectionError(f"{name}={value!r} is no whole number: use 1 or more")
                if value < 1:
                    raise SelectionError(f"{name}={value} is out of range: use 1 or more, a layer is never emptied")

    def left_alone(self, layers: Iterable[str]) -> frozenset[str]:
        """Those of the layers that keep all their units; raises SelectionError for a name that none of them has."""
        return frozenset(name for pattern in self.leave_alone for name in matching(pattern, layers))

    def floors(self, widths: Mapping[str, int]) -> dict[str, int]:
        """The floor of each layer that is not left alone, from the layers' widths.

        Raises SelectionError where a floor is above the layer's width or a name is unknown.
        """
        alone = self.left_alone(widths)
        found = dict.fromkeys(widths, 1) | per_layer(self.floor, widths)
        for layer, floor in found.items():
            if floor > widths[layer] and layer not in alone:
                raise SelectionError(
                    f"floor={floor} is above the width of layer {layer!r}, which has {widths[layer]} units: lower it, "
                    f"give floors by layer, or leave the layer alone"
                )
        return {layer: floor for layer, floor in found.items() if layer not in alone}

    def allowed(self, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """The widths that each layer may keep, ascending, from the layers' own widths; raises as `floors` does."""
        floors = self.floors(widths)
        return {
            layer: tuple(sorted({self.widened(kept, units) for kept in range(floors.get(layer, units), units + 1)}))
            for layer, units in widths.items()
        }

    def widened(self, kept: int, units: int) -> int:
        """`kept` rounded up to a multiple of `round_to`, at most `units`."""
        return min(units, -(-kept // self.round_to) * self.round_to)


def _whole(number: object) -> bool:
    return isinstance(number, Integral)


def per_layer(given: LimitValue | Mapping[str, LimitValue], layers: Iterable[str]) -> dict[str, LimitValue]:
    """One value for all layers, or values by name or pattern, as values by layer; layers not named are absent.

    A layer's own name goes before patterns, an earlier pattern before a later one.
    Raises SelectionError for a name or pattern that no layer has.
    """
    names = list(layers)
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, given)
    found: dict[str, LimitValue] = {}
    for pattern, value in given.items():
        for name in matching(pattern, names):
            if name == pattern or name not in found:
                found[name] = value
    return found | {name: given[name] for name in names if name in given}


def matching(pattern: str, layers: Iterable[str]) -> list[str]:
    """The layers of this name or pattern; raises SelectionError, with the nearest names, where there is none."""
    names = list(layers)
    found = [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise unknown_layer(pattern, names)
    return found


def unknown_layer(layer: str, known: Iterable[str]) -> SelectionError:
    """The error for a layer that is not among those known; it names the nearest."""
    names = list(known)
    hint = did_you_mean(layer, names, most=3) or f"use {', '.join(map(repr, names))}"
    return SelectionError(f"layer {layer!r} has no scores: {hint}")
