"""Removals within a cost: the most valuable units by the budget program, or by shares where that would be too large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor, nn

import formulation
import training
from critical_neurons.removal.goals import Goal
from formulation import BudgetSolution, TimeLimitReached
from training import Limits, Masks, Scores, SelectionError, UnitCosts, UnsupportedGraph

# Pairs of widths, over all layers that feed each other, up to which the budget program is solved in seconds or minutes.
LARGEST = 300_000
SECONDS = 60.0  # of the budget program where costs are counted, after which shares do
MEASURED_SECONDS = 600.0  # where they are measured, and nothing else would do
GAP = 1e-3  # of the value of what stays, within which widths are proved best
STEPS = 10  # of the bisection between no units and all


@dataclass(frozen=True, eq=False)
class WithinCost:
    """Masks whose cost is within a goal, that cost as a part of the whole network's, and what is to be said of them."""

    masks: Masks
    cost: float
    note: str = ""


def within_cost(
    network: nn.Module,
    values: Scores,
    goal: Goal,
    limits: Limits,
    example: Tensor,
    *,
    together: bool,
    threads: int,
) -> WithinCost:
    """The most valuable units whose cost is within the goal.

    The budget program proves that no other widths are worth more, but for GAP of the value. Where it would be too large
    or takes longer than SECONDS, or where the cost is not that of counts (a grouped convolution that may lose inputs
    and outputs), the units of lowest value go in equal shares: of all units where `together` says that values of
    different layers compare, else of each layer's.

    Raises SelectionError, UnsupportedGraph, FormulationError.
    """
    widths = {layer: len(each) for layer, each in values.items()}
    free = {layer: values[layer] for layer in limits.floors(widths)}
    allowed = replace(limits, leave_alone=()).allowed({layer: widths[layer] for layer in free})
    costs = _costs(network, free, widths, goal, limits, example, threads)
    if costs is None or (costs.widths is None and _pairs_of_widths(costs, allowed) > LARGEST):
        return _by_share(network, values, goal, limits, example, together=together)
    budget = _Budget(costs, allowed, goal.value, together, threads)
    solution = budget.kept(free)
    if solution is None:
        return _by_share(network, values, goal, limits, example, together=together)
    masks = {layer: solution.masks.get(layer, np.ones(units, np.bool_)) for layer, units in widths.items()}
    return WithinCost(masks, solution.cost)


@dataclass(frozen=True, eq=False)
class _Budget:
    """The budget program but for its values."""

    costs: UnitCosts
    allowed: Mapping[str, tuple[int, ...]]
    most: float
    together: bool
    threads: int

    def kept(self, free: Scores) -> BudgetSolution | None:
        """The units to keep; None where they were not found in time and something else can be done instead."""
        # A unit may be worth little, but never less than the room that it leaves.
        lowest = min(0.0, *(float(each.min()) for each in free.values()))
        counted = self.costs.widths is None
        try:
            return formulation.keep_within(
                {layer: each - lowest for layer, each in free.items()},
                self.costs.costs,
                self.most,
                allowed=self.allowed,
                widths=self.costs.widths,
                layer_weight="network" if self.together else "units",
                threads=self.threads,
                gap=GAP,
                time_limit=SECONDS if counted else MEASURED_SECONDS,
            )
        except TimeLimitReached:
            if counted:
                return None
            raise


def _costs(
    network: nn.Module,
    free: Scores,
    widths: Mapping[str, int],
    goal: Goal,
    limits: Limits,
    example: Tensor,
    threads: int,
) -> UnitCosts | None:
    """What units cost; None where that is not said by counts."""
    if goal.name == "latency":
        own = {layer: widths[layer] for layer in free}
        return training.measured_costs(network, own, limits, example, threads=threads)
    try:
        return training.counted_costs(network, tuple(free), widths, example, _counted(goal))
    except UnsupportedGraph:
        training.consumers(network, example, list(free))  # raises where it is the units that cannot be followed
        return None


def _counted(goal: Goal) -> Literal["parameters", "multiply_adds"]:
    return "parameters" if goal.name == "parameters" else "multiply_adds"


def _pairs_of_widths(costs: UnitCosts, allowed: Mapping[str, tuple[int, ...]]) -> int:
    pairs = {(one, other) for one, other, _ in costs.costs if one is not None and other is not None and one != other}
    return sum(len(allowed[one]) * len(allowed[other]) for one, other in pairs)


def _by_share(
    network: nn.Module, values: Scores, goal: Goal, limits: Limits, example: Tensor, *, together: bool
) -> WithinCost:
    select = training.by_quantile if together else training.by_share
    least, most, found = 0.0, 1.0, None
    for _ in range(STEPS):
        share = (least + most) / 2
        masks = select(values, share, limits).masks
        left = part_left(network, masks, goal, limits, example)
        if left <= goal.value:
            most, found = share, (masks, left, share)
        else:
            least = share
    if found is None:
        raise SelectionError(f"no share of the units meets the goal {goal}: ask for less, or lower the floor")
    whose = "all units" if together else "each layer's units"
    why = "the program of widths is too large or takes too long"
    return WithinCost(found[0], found[1], f"{found[2]:.1%} of {whose} go, the least share within the goal: {why}")


def part_left(network: nn.Module, masks: Masks, goal: Goal, limits: Limits, example: Tensor) -> float:
    """What masks leave of the parameters or the multiply-adds, as a part of the whole network's."""
    alone = limits.left_alone(masks)
    account = training.removal(network, {layer: mask for layer, mask in masks.items() if layer not in alone}, example)
    if _counted(goal) == "parameters":
        return account.parameters_after / account.parameters_before
    return account.multiply_adds_after / account.multiply_adds_before
