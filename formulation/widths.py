"""How many units each layer may keep, and what they are worth: the units with the highest scores stay first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from formulation.errors import InvalidBudget
from formulation.network import Array, Index, Scores


@dataclass(frozen=True, eq=False)
class Choices:
    """What one layer may keep.

    Attributes:
        widths: allowed numbers of kept units, ascending.
        value: of each width n, the sum of the n highest scores times the layer's weight.
        order: the units from the highest score to the lowest, ties by position.
    """

    widths: Index
    value: Array
    order: Index

    def mask(self, width: int) -> NDArray[np.bool_]:
        """The units that stay when `width` of them do."""
        kept = np.zeros(len(self.order), dtype=bool)
        kept[self.order[:width]] = True
        return kept


def choices(
    scores: Scores,
    *,
    floor: int | Mapping[str, int],
    round_to: int,
    leave_alone: Sequence[str],
    grids: Mapping[str, Sequence[int]] | None,
    layer_weight: str | Mapping[str, float],
) -> dict[str, Choices]:
    """The choices of each layer; raises InvalidBudget where scores, names or limits do not fit."""
    _require_scores(scores)
    units = {layer: len(values) for layer, values in scores.items()}
    if not _whole(round_to):
        raise InvalidBudget(f"round_to={round_to!r} is no whole number; use 1 or more")
    if round_to < 1:
        raise InvalidBudget(f"round_to={round_to} is out of range; use 1 or more")
    alone = {layer for pattern in leave_alone for layer in named(pattern, units)}
    floors = _floors(floor, units)
    grids = {} if grids is None else grids
    for layer in grids:
        named(layer, units)
    weights = _weights(layer_weight, units)
    made = {}
    for layer, values in scores.items():
        least = units[layer] if layer in alone else floors[layer]
        if least > units[layer]:
            raise InvalidBudget(
                f"floor={least} is above the width of layer '{layer}', which has {units[layer]} units; lower it, give "
                "floors by layer, or leave the layer alone"
            )
        widths = _allowed(layer, units[layer], least, round_to, grids.get(layer))
        order = np.argsort(-np.asarray(values, dtype=float), kind="stable")
        total = np.cumsum(np.asarray(values, dtype=float)[order])
        made[layer] = Choices(widths, weights[layer] * total[widths - 1], order)
    return made


def named(pattern: str, layers: Iterable[str]) -> list[str]:
    """The layers of this name or pattern; raises InvalidBudget, with the nearest names, where there is none."""
    names = list(layers)
    found = [pattern] if pattern in names else [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        near = get_close_matches(pattern, names, 3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"use {', '.join(map(repr, names))}"
        raise InvalidBudget(f"layer '{pattern}' has no scores; {hint}")
    return found


def _whole(number: object) -> bool:
    return isinstance(number, Integral)


def _require_scores(scores: Scores) -> None:
    if not scores:
        raise InvalidBudget("there are no scores; give those of one layer or more")
    for layer, values in scores.items():
        if np.ndim(values) != 1 or not len(values):
            raise InvalidBudget(f"scores of '{layer}' have shape {np.shape(values)}; give one score per unit")
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise InvalidBudget(f"score of unit {bad[0]} of '{layer}' is {values[bad[0]]}; scores must be finite")


def _floors(floor: int | Mapping[str, int], units: Mapping[str, int]) -> dict[str, int]:
    """The floor of each layer: its own name before patterns, an earlier pattern before a later one, else 1."""
    given = floor if isinstance(floor, Mapping) else {"*": floor}
    found: dict[str, int] = {}
    for pattern, least in given.items():
        if not _whole(least):
            raise InvalidBudget(f"floor={least!r} of '{pattern}' is no whole number; use 1 or more")
        if least < 1:
            raise InvalidBudget(f"floor={least} of '{pattern}' is out of range; use 1 or more, no layer is emptied")
        for layer in named(pattern, units):
            if layer == pattern or layer not in found:
                found[layer] = least
    exact = {layer: given[layer] for layer in units if layer in given}
    return dict.fromkeys(units, 1) | found | exact


def _weights(layer_weight: str | Mapping[str, float], units: Mapping[str, int]) -> dict[str, float]:
    if isinstance(layer_weight, Mapping):
        missing = [layer for layer in units if not np.isfinite(layer_weight.get(layer, np.nan))]
        if missing:
            raise InvalidBudget(f"layer_weight has no finite number for layer '{missing[0]}'; give one for each layer")
        return {layer: float(layer_weight[layer]) for layer in units}
    if layer_weight not in ("units", "network"):
        raise InvalidBudget(f"layer_weight={layer_weight!r} is unknown; use units, network, or numbers by layer")
    return {layer: 1 / (own if layer_weight == "units" else sum(units.values())) for layer, own in units.items()}


def _allowed(layer: str, units: int, least: int, round_to: int, grid: Sequence[int] | None) -> Index:
    rounded = np.minimum(units, -(-np.arange(least, units + 1) // round_to) * round_to)
    if grid is None:
        return np.unique(rounded)
    if not all(_whole(width) for width in grid):
        raise InvalidBudget(f"widths of layer '{layer}' are no whole numbers, found {grid}; give numbers of units")
    if sorted(set(grid)) != list(grid) or not len(grid) or not 1 <= grid[0] <= grid[-1] <= units:
        raise InvalidBudget(f"widths of layer '{layer}' must ascend from 1 or more to at most {units}, found {grid}")
    allowed = np.intersect1d(rounded, grid)
    if not len(allowed):
        raise InvalidBudget(
            f"none of the widths {list(grid)} of layer '{layer}' is at least {least} and a multiple of {round_to} (or "
            f"all {units}); add one, or lower floor or round_to"
        )
    return allowed
