"""Widths: the numbers of units that a layer may keep, and their worth; the highest scores stay first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from formulation.errors import InvalidBudget
from formulation.network import Array, Index, Scores
from naming import did_you_mean


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
    allowed: Mapping[str, Sequence[int]] | None,
    grids: Mapping[str, Sequence[int]] | None,
    layer_weight: str | Mapping[str, float],
) -> dict[str, Choices]:
    """The choices of each layer: the widths that are allowed and, where a layer has a grid, measured.

    Raises InvalidBudget where scores, names or widths do not fit.
    """
    _require_scores(scores)
    units = {layer: len(values) for layer, values in scores.items()}
    given = {"allowed": allowed or {}, "widths": grids or {}}
    for layer in [layer for each in given.values() for layer in each]:
        require_layer(layer, units)
    weights = _weights(layer_weight, units)
    made = {}
    for layer, values in scores.items():
        widths = np.arange(1, units[layer] + 1)
        for what, by_layer in given.items():
            if layer in by_layer:
                widths = _narrowed(what, layer, widths, by_layer[layer], units[layer])
        order = np.argsort(-np.asarray(values, dtype=float), kind="stable")
        total = np.cumsum(np.asarray(values, dtype=float)[order])
        made[layer] = Choices(widths, weights[layer] * total[widths - 1], order)
    return made


def require_layer(name: str, layers: Iterable[str]) -> None:
    """Raise InvalidBudget, with the nearest names, unless a layer has this name."""
    names = list(layers)
    if name not in names:
        hint = did_you_mean(name, names, most=3) or f"use {', '.join(map(repr, names))}"
        raise InvalidBudget(f"layer '{name}' has no scores; {hint}")


def _require_scores(scores: Scores) -> None:
    if not scores:
        raise InvalidBudget("there are no scores; give those of one layer or more")
    for layer, values in scores.items():
        if np.ndim(values) != 1 or not len(values):
            raise InvalidBudget(f"scores of '{layer}' have shape {np.shape(values)}; give one score per unit")
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise InvalidBudget(f"score of unit {bad[0]} of '{layer}' is {values[bad[0]]}; scores must be finite")


def _weights(layer_weight: str | Mapping[str, float], units: Mapping[str, int]) -> dict[str, float]:
    if isinstance(layer_weight, Mapping):
        missing = [layer for layer in units if not np.isfinite(layer_weight.get(layer, np.nan))]
        if missing:
            raise InvalidBudget(f"layer_weight has no finite number for layer '{missing[0]}'; give one for each layer")
        return {layer: float(layer_weight[layer]) for layer in units}
    if layer_weight not in ("units", "network"):
        raise InvalidBudget(f"layer_weight={layer_weight!r} is unknown; use units, network, or numbers by layer")
    return {layer: 1 / (own if layer_weight == "units" else sum(units.values())) for layer, own in units.items()}


def _narrowed(what: str, layer: str, widths: Index, given: Sequence[int], units: int) -> Index:
    """Those of the widths of a layer of so many units that are given."""
    found = list(given)
    if not all(isinstance(width, Integral) for width in found):
        raise InvalidBudget(f"{what} of layer '{layer}' are no whole numbers, found {found}; give numbers of units")
    if sorted(set(found)) != found or not found or not 1 <= found[0] <= found[-1] <= units:
        raise InvalidBudget(f"{what} of layer '{layer}' must ascend from 1 or more to at most {units}, found {found}")
    both = np.intersect1d(widths, found)
    if not len(both):
        raise InvalidBudget(
            f"none of the {what} {found} of layer '{layer}' is among those allowed, from {widths[0]} to {widths[-1]}; "
            f"add one, or allow more"
        )
    return both
