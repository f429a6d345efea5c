"""Admission: masks that keep a budget, and budgets that speak of the layers that the network has."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from formulation.errors import InvalidBudget
from formulation.masks.budgets.distances import missing, reference
from formulation.masks.budgets.mask_budget import CostLimit, MaskBudget
from formulation.network import Array, Network

MOST_PRODUCTS = 8
WITHIN = 1e-9  # relative: a cost summed in another order


def require_layers(network: Network, budget: MaskBudget) -> None:
    """Refuse a budget that the network's layers do not fit.

    Args:
        network: whose units are chosen.
        budget: the limits.

    Raises:
        InvalidBudget: a layer that the network does not score, a count beyond its units, too many products of widths,
            or a mask to keep away from that is of another network.
    """
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
    for away in budget.distances:
        reference(network, away)


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
    return (
        within(budget, widths)
        and (budget.changes is None or np.abs(chosen - mask).sum() <= budget.changes + 0.5)
        and not missing(network, budget.distances, chosen).any()
    )


def within(budget: MaskBudget, widths: Mapping[str, int]) -> bool:
    """Whether widths keep all of a budget but the trust region and the distances.

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
