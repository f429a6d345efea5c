"""Budgets as rows that are linear in the scores, for a region of masks.

With n_k = sum_j s_kj the width of layer k, m the mask so far,

    counts          n_k = given
    at_most         n_k <= given
    units           sum_k n_k <= given
    costs           constant + sum_k c_k n_k + sum_pc r_pc n_p n_c <= most
    trust region    sum_{m_j = 1} (1 - s_j) + sum_{m_j = 0} s_j <= changes
    distance        sum_{k_j = 1} (1 - s_j) + sum_{k_j = 0} s_j >= units, for a mask k to keep away from
    floor           n_k >= 1

A product of widths in [l, u] each lies above two planes (McCormick); a cost's rows take every choice of one for each
product, with the widths' bounds of the region that is looked at, and are exact where one of each two widths is fixed:

    n_p n_c >= l_c n_p + l_p n_c - l_p l_c,       n_p n_c >= u_c n_p + u_p n_c - u_p u_c
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from formulation.masks.budgets.admission import WITHIN
from formulation.masks.budgets.distances import reference
from formulation.masks.budgets.mask_budget import CostLimit, MaskBudget
from formulation.network import Array, Index, Network


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

    @property
    def empty(self) -> bool:
        """Whether no scores lie in it."""
        return bool(np.any(self.lower > self.upper) or np.any(self.least > self.most))

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
    for away in budget.distances:
        kept = reference(network, away)
        rows.append((2 * kept - 1, float(kept.sum()) - away.units))
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
