"""Budgets that no mask keeps: the smallest that one would keep, or which of them contradict each other.

All limits speak of widths alone: the trust region of the least number of changes, sum_k |n_k - |m_k||, that reaches
them. Costs only grow with widths, so without a trust region the smallest widths decide; with one, each width lies
between its smallest and the mask's, and the cheapest widths within the changes left are searched for. Of distances only
those are refused here that widths alone rule out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from formulation.errors import BudgetTooSmall, InvalidBudget
from formulation.masks.budgets.admission import cost_of, within
from formulation.masks.budgets.mask_budget import CostLimit, Distance, MaskBudget
from formulation.network import Array, Network

Widths = dict[str, int]
MOST_COMBINATIONS = 200_000


def require_feasible(network: Network, budget: MaskBudget, mask: Array) -> Widths:
    """Widths that keep the budget.

    Args:
        network: whose units are chosen.
        budget: the limits.
        mask: the mask so far, [units].

    Returns:
        Widths by layer, the smallest possible but for a trust region.

    Raises:
        BudgetTooSmall: one limit cannot be met; the message names the smallest that can.
        InvalidBudget: limits contradict each other; the message names them, two where two suffice; or a distance that
            no mask reaches.
    """
    found = feasible_widths(network, budget, mask)
    if found is not None:
        for away in budget.distances:
            _require_reachable(network, budget, away)
        return found
    parts = list(budget.parts())
    for name, part in parts:
        if feasible_widths(network, part, mask) is None:
            raise BudgetTooSmall(f"no mask keeps {name}: {_smallest(network, part, mask)}")
    for size in range(2, len(parts) + 1):
        for chosen in itertools.combinations(parts, size):
            joined = chosen[0][1]
            for _, part in chosen[1:]:
                joined = joined.joined(part)
            if feasible_widths(network, joined, mask) is None:
                named = " and ".join(repr(name) for name, _ in chosen)
                raise InvalidBudget(f"the budgets {named} contradict each other; {_remedy(network, joined, mask)}")
    raise InvalidBudget("no mask keeps the budget; raise a limit")


def _require_reachable(network: Network, budget: MaskBudget, away: Distance) -> None:
    """Raise InvalidBudget for a distance that widths alone rule out: w of N units differ from r in at most so many."""
    most = 0
    for layer, units in network.units.items():
        kept, given = int(sum(away.kept[layer])), budget.counts.get(layer)
        widths = range(1, budget.at_most.get(layer, units) + 1) if given is None else (given,)
        most += max(width + kept - 2 * max(0, width + kept - units) for width in widths)
    if most < away.units:
        raise InvalidBudget(
            f"no mask that keeps the budget differs from another in {away.units} units, at most in {most}; lower the "
            f"distance"
        )


def _remedy(network: Network, budget: MaskBudget, mask: Array) -> str:
    """The smallest value of a limit with which the others can be kept."""
    for limit in budget.costs:
        rest = replace(budget, costs=tuple(each for each in budget.costs if each is not limit))
        least = _cheapest(network, rest, mask, limit)
        if least is not None:
            return f"beside the others {limit.name} is at least {least:g}"
    if budget.units is not None:
        least = _cheapest(network, replace(budget, units=None), mask, _count_of(network))
        if least is not None:
            return f"beside the others there are at least {least:g} units"
    return "drop one of them"


def _smallest(network: Network, part: MaskBudget, mask: Array) -> str:
    if part.costs:
        least = _cheapest(network, MaskBudget(), mask, part.costs[0])
        return f"one unit in each layer has {part.costs[0].name} of {least:g}; raise the limit"
    if part.units is not None:
        return f"{len(network.layers)} layers keep at least one unit each; raise units to {len(network.layers)}"
    return "raise the limit"


def _count_of(network: Network) -> CostLimit:
    return CostLimit("units", tuple((None, layer, 1.0) for layer in network.units), math.inf)


def _cheapest(network: Network, budget: MaskBudget, mask: Array, limit: CostLimit) -> float | None:
    """The least that a cost can be within the rest of the budget."""
    costs = [cost_of(limit, widths) for widths in _candidates(network, budget, mask) if within(budget, widths)]
    return min(costs, default=None)


def feasible_widths(network: Network, budget: MaskBudget, mask: Array) -> Widths | None:
    """Widths that keep a budget, None where there are none.

    Args:
        network: whose units are chosen.
        budget: the limits.
        mask: the mask so far, [units].
    """
    return next((widths for widths in _candidates(network, budget, mask) if within(budget, widths)), None)


def _candidates(network: Network, budget: MaskBudget, mask: Array) -> Iterator[Widths]:
    """Widths among which the cheapest are: the smallest, or all those that the trust region reaches."""
    units = network.units
    smallest = {layer: budget.counts.get(layer, 1) for layer in units}
    if any(budget.at_most.get(layer, count) < smallest[layer] for layer, count in units.items()):
        return
    if budget.changes is None:
        yield smallest
        return
    kept = {name: int(mask[where].sum()) for name, where in network.score_slices.items()}
    tops = {
        layer: budget.counts.get(layer, min(max(kept[layer], 1), budget.at_most.get(layer, units[layer])))
        for layer in units
    }
    forced = sum(abs(tops[layer] - kept[layer]) for layer in units)
    left = budget.changes - forced
    if left < 0:
        return
    yield from _reached(smallest, tops, left, budget)


def _reached(smallest: Widths, tops: Widths, left: int, budget: MaskBudget) -> Iterator[Widths]:
    """All widths from the mask's downwards, by at most so many units; greedily where they are too many to list."""
    free = [layer for layer in tops if smallest[layer] < tops[layer]]
    room = {layer: min(left, tops[layer] - smallest[layer]) for layer in free}
    if math.prod(room[layer] + 1 for layer in free) <= MOST_COMBINATIONS:
        for fewer in itertools.product(*(range(room[layer], -1, -1) for layer in free)):
            if sum(fewer) <= left:
                yield tops | {layer: tops[layer] - less for layer, less in zip(free, fewer, strict=True)}
        return
    widths = dict(tops)
    for _ in range(min(left, sum(room.values()))):
        yield dict(widths)
        able = [layer for layer in free if widths[layer] > smallest[layer]]
        widths[max(able, key=lambda layer: _relief(budget, widths, layer))] -= 1
    yield dict(widths)


def _relief(budget: MaskBudget, widths: Mapping[str, int], layer: str) -> float:
    """What one unit less takes off the limits that are passed, each in parts of its own size."""
    fewer = {**widths, layer: widths[layer] - 1}
    passed = [each for each in budget.costs if cost_of(each, widths) > each.most]
    saved = [(cost_of(each, widths) - cost_of(each, fewer)) / max(1.0, abs(each.most)) for each in passed]
    return float(np.sum(saved)) if saved else float(budget.units is not None)
