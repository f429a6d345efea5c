"""Budgets of a mask: counts of units, costs and a trust region, as rows that are linear in the scores.

With n_k = sum_j s_kj the width of layer k, m the mask so far,

    counts          n_k = given
    at_most         n_k <= given
    units           sum_k n_k <= given
    costs           constant + sum_k c_k n_k + sum_pc r_pc n_p n_c <= most
    trust region    sum_{m_j = 1} (1 - s_j) + sum_{m_j = 0} s_j <= changes
    floor           n_k >= 1

A product of widths in [l, u] each lies above two planes (McCormick); a cost's rows take every choice of one for each
product, with the widths' bounds of the region that is looked at, and are exact where one of each two widths is fixed:

    n_p n_c >= l_c n_p + l_p n_c - l_p l_c,       n_p n_c >= u_c n_p + u_p n_c - u_p u_c
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from formulation.errors import InvalidBudget
from formulation.network import Array, Index, Network

# (producer, consumer, number): the number times the widths of both, None standing for 1.
WidthCost = tuple[str | None, str | None, float]
MOST_PRODUCTS = 8
WITHIN = 1e-9  # relative: a cost summed in another order


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
class MaskBudget:
    """What a mask may keep.

    Attributes:
        counts: units of a layer, exactly.
        at_most: units of a layer, at most.
        units: of all layers together, at most.
        costs: further limits.
        changes: how many units may differ from the mask so far.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    at_most: Mapping[str, int] = field(default_factory=dict)
    units: int | None = None
    costs: tuple[CostLimit, ...] = ()
    changes: int | None = None

    def __post_init__(self) -> None:
        for what, given in (("counts", self.counts), ("at_most", self.at_most)):
            for layer, count in given.items():
                _require_count(f"{what}[{layer!r}]", count, 1)
        for what, number in (("units", self.units), ("changes", self.changes)):
            if number is not None:
                _require_count(what, number, 0)
        for limit in self.costs:
            _require_limit(limit)

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
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return {
            "counts": dict(self.counts),
            "at_most": dict(self.at_most),
            "units": self.units,
            "costs": [[limit.name, [list(term) for term in limit.terms], limit.most] for limit in self.costs],
            "changes": self.changes,
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> MaskBudget:
        """The inverse of `to_dict`."""
        costs = tuple(CostLimit(n, tuple((p, c, x) for p, c, x in terms), most) for n, terms, most in values["costs"])
        return MaskBudget(**{**values, "costs": costs})


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


class Branch(NamedTuple):
    """A branch: unit `which` is kept (above) or removed, or layer `which` keeps more than `at` units (above) or not."""

    kind: str  # "unit" or "width"
    which: int
    at: int
    above: bool


@dataclass(frozen=True, eq=False)
class Region:
    """Scores in [lower, upper], and widths of the layers in [least, most]."""

    lower: Array
    upper: Array
    least: Index
    most: Index

    @staticmethod
    def whole(network: Network) -> Region:
        """Every mask with at least one unit in each layer."""
        units = np.array([layer.units for layer in network.layers])
        count = network.score_count
        return Region(np.zeros(count), np.ones(count), np.ones(len(units), dtype=np.int64), units)

    def after(self, step: Branch) -> Region:
        """The part of the region on one side of a branch."""
        bounds = {name: getattr(self, name).copy() for name in ("lower", "upper", "least", "most")}
        if step.kind == "unit":
            bounds["lower" if step.above else "upper"][step.which] = float(step.above)
        elif step.above:
            bounds["least"][step.which] = max(self.least[step.which], step.at + 1)
        else:
            bounds["most"][step.which] = min(self.most[step.which], step.at)
        return replace(self, **bounds)


@dataclass(frozen=True, eq=False)
class Rows:
    """matrix @ s <= most, [rows, units] and [rows]."""

    matrix: Array
    most: Array


def require_layers(network: Network, budget: MaskBudget) -> None:
    """Raise InvalidBudget for a layer that the network does not score, or a count beyond its units."""
    named = [(f"{layer}", count) for given in (budget.counts, budget.at_most) for layer, count in given.items()]
    of_costs = [layer for limit in budget.costs for term in limit.terms for layer in term[:2] if layer is not None]
    for layer in [*(layer for layer, _ in named), *of_costs]:
        if layer not in network.units:
            raise InvalidBudget(f"'{layer}' is no scored layer; the scored layers are {', '.join(network.units)}")
    for layer, count in budget.counts.items():
        if count > network.units[layer]:
            raise InvalidBudget(
                f"{count} units of {layer} are asked for, which has {network.units[layer]}; ask for less"
            )
    for limit in budget.costs:
        products = {term[:2] for term in limit.terms if None not in term[:2]}
        if len(products) > MOST_PRODUCTS:
            raise InvalidBudget(
                f"{limit.name} multiplies the widths of {len(products)} pairs of layers, at most {MOST_PRODUCTS} fit a "
                "mask program; choose counts by keep_within first"
            )


def rows_of(network: Network, budget: MaskBudget, mask: Array, region: Region) -> Rows:
    """The rows that every mask in a region within the budget keeps; widths that units alone decide have none.

    Args:
        network: whose units are chosen.
        budget: the limits.
        mask: m, the mask so far, [units].
        region: of the masks.
    """
    of_layer = {name: np.zeros(network.score_count) for name in network.units}
    for name, where in network.score_slices.items():
        of_layer[name][where] = 1.0
    least, most = dict(zip(of_layer, region.least, strict=True)), dict(zip(of_layer, region.most, strict=True))
    rows: list[tuple[Array, float]] = []
    for name, width in of_layer.items():
        low = max(int(least[name]), budget.counts.get(name, 1))
        high = min(int(most[name]), budget.at_most.get(name, network.units[name]), budget.counts.get(name, 10**9))
        rows += [(-width, float(-low)), (width, float(high))]
    if budget.units is not None:
        rows.append((np.ones(network.score_count), float(budget.units)))
    if budget.changes is not None:
        rows.append((1 - 2 * mask, budget.changes - float(mask.sum())))
    bounds = {name: _bounds(region, where, int(least[name]), int(most[name]))
              for name, where in network.score_slices.items()}  # fmt: skip
    for limit in budget.costs:
        rows += _cost_rows(limit, of_layer, bounds)
    matrix = np.array([row for row, _ in rows]).reshape(len(rows), network.score_count)
    return Rows(matrix, np.array([bound for _, bound in rows]))


def _bounds(region: Region, where: slice, least: int, most: int) -> tuple[float, float]:
    """The smallest and the largest width of a layer in a region."""
    low, high = max(region.lower[where].sum(), least), min(region.upper[where].sum(), most)
    return float(low), float(max(low, high))


def _cost_rows(
    limit: CostLimit, of_layer: Mapping[str, Array], bounds: Mapping[str, tuple[float, float]]
) -> Iterator[tuple[Array, float]]:
    row, constant = np.zeros(len(next(iter(of_layer.values())))), 0.0
    products: dict[tuple[str, str], float] = {}
    for producer, consumer, number in limit.terms:
        if producer is not None and consumer is not None:
            products[producer, consumer] = products.get((producer, consumer), 0.0) + float(number)
        elif producer is None and consumer is None:
            constant += float(number)
        else:
            row = row + float(number) * of_layer[producer or consumer or ""]
    for ends in itertools.product((0, 1), repeat=len(products)):
        own, free = row.copy(), constant
        for end, ((producer, consumer), rate) in zip(ends, products.items(), strict=True):
            p, c = bounds[producer][end], bounds[consumer][end]
            own += rate * (c * of_layer[producer] + p * of_layer[consumer])
            free -= rate * p * c
        scale = max(1.0, float(np.abs(own).max(initial=0.0)))
        yield own / scale, (limit.most - free) / scale + WITHIN * max(1.0, abs(limit.most)) / scale


def cost_of(limit: CostLimit, widths: Mapping[str, int]) -> float:
    """What a mask with these widths costs.

    Args:
        limit: with the terms.
        widths: by layer.
    """
    return sum(float(n) * widths.get(p or "", 1) * widths.get(c or "", 1) for p, c, n in limit.terms)


def admits(network: Network, budget: MaskBudget, mask: Array, chosen: Array) -> bool:
    """Whether a mask keeps a budget, exactly.

    Args:
        network: whose units are chosen.
        budget: the limits.
        mask: m, the mask so far, [units].
        chosen: the mask that is asked about, [units].
    """
    widths = {name: round(float(chosen[where].sum())) for name, where in network.score_slices.items()}
    return within(budget, widths) and (budget.changes is None or np.abs(chosen - mask).sum() <= budget.changes + 0.5)


def within(budget: MaskBudget, widths: Mapping[str, int]) -> bool:
    """Whether widths keep all of a budget but the trust region.

    Args:
        budget: the limits.
        widths: by layer, of every layer.
    """
    return (
        min(widths.values()) >= 1
        and all(widths[layer] == count for layer, count in budget.counts.items())
        and all(widths[layer] <= count for layer, count in budget.at_most.items())
        and (budget.units is None or sum(widths.values()) <= budget.units)
        and all(cost_of(each, widths) <= each.most + WITHIN * max(1.0, abs(each.most)) for each in budget.costs)
    )
