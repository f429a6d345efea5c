"""Budgets of a mask as plain values: counts of units, costs, a trust region, and distances from other masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from formulation.errors import InvalidBudget

# (producer, consumer, number): the number times the widths of both, None standing for 1.
WidthCost = tuple[str | None, str | None, float]


@dataclass(frozen=True)
class CostLimit:
    """A cost that a mask may have at most.

    Attributes:
        name: for messages: `parameters`, say.
        terms: (producer, consumer, number) each, as for `keep_within`: the number times the widths of both, None
            standing for 1. No number is below 0, but for constants.
        most: the limit.
    """

    name: str
    terms: tuple[WidthCost, ...]
    most: float


@dataclass(frozen=True)
class Distance:
    """A mask that others keep away from.

    Attributes:
        kept: whether each unit is kept, by layer, of every layer.
        units: in how many units, of all layers together, another mask differs from it at least.
    """

    kept: Mapping[str, tuple[bool, ...]]
    units: int


@dataclass(frozen=True)
class MaskBudget:
    """What a mask may keep.

    Attributes:
        counts: units of a layer, exactly.
        at_most: units of a layer, at most.
        units: of all layers together, at most.
        costs: further limits.
        changes: how many units may differ from the mask so far.
        distances: masks to keep away from.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    at_most: Mapping[str, int] = field(default_factory=dict)
    units: int | None = None
    costs: tuple[CostLimit, ...] = ()
    changes: int | None = None
    distances: tuple[Distance, ...] = ()

    def __post_init__(self) -> None:
        for what, given in (("counts", self.counts), ("at_most", self.at_most)):
            for layer, count in given.items():
                _require_count(f"{what}[{layer!r}]", count, 1)
        for what, number in (("units", self.units), ("changes", self.changes)):
            if number is not None:
                _require_count(what, number, 0)
        for limit in self.costs:
            _require_limit(limit)
        for away in self.distances:
            _require_count("the distance from a mask", away.units, 1)

    def parts(self) -> Iterator[tuple[str, MaskBudget]]:
        """Each limit alone, with its name: what a message can call contradictory."""
        for layer, count in self.counts.items():
            yield f"{count} units of {layer}", MaskBudget(counts={layer: count})
        for layer, count in self.at_most.items():
            yield f"at most {count} units of {layer}", MaskBudget(at_most={layer: count})
        if self.units is not None:
            yield f"at most {self.units} units", MaskBudget(units=self.units)
        for limit in self.costs:
            yield f"{limit.name} of at most {limit.most:g}", MaskBudget(costs=(limit,))
        if self.changes is not None:
            yield f"at most {self.changes} changes", MaskBudget(changes=self.changes)
        for away in self.distances:
            yield f"at least {away.units} units unlike another mask", MaskBudget(distances=(away,))

    def joined(self, other: MaskBudget) -> MaskBudget:
        """Both, for layers and limits that are in one of them."""
        units = [each for each in (self.units, other.units) if each is not None]
        changes = [each for each in (self.changes, other.changes) if each is not None]
        return MaskBudget(
            {**self.counts, **other.counts},
            {**self.at_most, **other.at_most},
            min(units, default=None),
            self.costs + other.costs,
            min(changes, default=None),
            self.distances + other.distances,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return {
            "counts": dict(self.counts),
            "at_most": dict(self.at_most),
            "units": self.units,
            "costs": [[limit.name, [list(term) for term in limit.terms], limit.most] for limit in self.costs],
            "changes": self.changes,
            "distances": [
                [{n: list(map(int, k)) for n, k in each.kept.items()}, each.units] for each in self.distances
            ],
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> MaskBudget:
        """The inverse of `to_dict`."""
        costs = tuple(CostLimit(n, tuple((p, c, x) for p, c, x in terms), most) for n, terms, most in values["costs"])
        distances = tuple(
            Distance({name: tuple(map(bool, kept)) for name, kept in masks.items()}, units)
            for masks, units in values.get("distances", ())  # certificates of earlier versions have none
        )
        return MaskBudget(**{**values, "costs": costs, "distances": distances})


def _require_count(what: str, count: Any, least: int) -> None:
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < least:
        raise InvalidBudget(f"{what}={count!r} is out of range; give a whole number of at least {least}")


def _require_limit(limit: CostLimit) -> None:
    if not np.isfinite(limit.most):
        raise InvalidBudget(f"the limit {limit.most!r} of {limit.name} is not finite; give a number")
    for producer, consumer, number in limit.terms:
        where = f"the cost of {producer!r} feeding {consumer!r} in {limit.name}"
        if np.ndim(number):
            raise InvalidBudget(f"{where} is a table; a mask program takes numbers, `keep_within` takes tables")
        if not np.isfinite(number) or (number < 0 and (producer is not None or consumer is not None)):
            raise InvalidBudget(f"{where} is {number!r}; give a finite number of at least 0")
