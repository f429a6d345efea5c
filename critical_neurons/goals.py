"""Goals of a removal: how much may go, by accuracy, by share, or by what the network may still cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from torch import Tensor, nn

import formulation
import training
from training import Limits, Masks, Scores, SelectionError

GoalName = Literal["tolerance", "share", "parameters", "multiply_adds", "latency"]
WORDS: Mapping[GoalName, str] = {
    "tolerance": "as much as costs at most {:g} points of accuracy",
    "share": "{:.0%} of each layer's units",
    "parameters": "until {:.0%} of the parameters remain",
    "multiply_adds": "until {:.0%} of the multiply-adds remain",
    "latency": "until {:.0%} of the measured seconds remain",
}


@dataclass(frozen=True)
class Goal:
    """How much goes: points of accuracy that it may cost, a share of units, or the part of a cost that may remain."""

    name: GoalName
    value: float

    def __str__(self) -> str:
        return WORDS[self.name].format(self.value)


def goal_of(given: Mapping[GoalName, float | None], usual: Goal) -> Goal:
    """The one goal that is given, or the usual one; raises SelectionError for two, and for a value out of range."""
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) > 1:
        words = ", ".join(f"{name}={value:g}" for name, value in named.items())
        raise SelectionError(f"{words} are two goals: give one of {', '.join(get_args(GoalName))}")
    for name, value in named.items():
        if name == "tolerance" and not 0.0 <= value <= 100.0:
            raise SelectionError(f"tolerance={value:g} is out of range: use points of accuracy, 0 to 100")
        if name != "tolerance" and not 0.0 < value < 1.0:
            raise SelectionError(f"{name}={value:g} is out of range: use a part above 0 and below 1")
        return Goal(name, float(value))
    return usual


def within_cost(
    network: nn.Module,
    values: Scores,
    goal: Goal,
    limits: Limits,
    example: Tensor,
    *,
    together: bool,
    threads: int,
) -> tuple[Masks, float]:
    """The most valuable units whose cost is within the goal, and what they cost, as a part of the whole network.

    `together`: values of different layers compare. Raises SelectionError, UnsupportedGraph, FormulationError.
    """
    widths = {layer: len(each) for layer, each in values.items()}
    free = {layer: values[layer] for layer in limits.floors(widths)}
    if not free:
        raise SelectionError("every layer is left alone: name fewer")
    if goal.name == "latency":
        costs = training.measured_costs(
            network, {layer: widths[layer] for layer in free}, limits, example, threads=threads
        )
    else:
        what: Literal["parameters", "multiply_adds"] = "parameters" if goal.name == "parameters" else "multiply_adds"
        costs = training.counted_costs(network, tuple(free), widths, example, what)
    # A unit may be worth little, but never less than the room that it leaves.
    lowest = min(0.0, *(float(each.min()) for each in free.values()))
    solution = formulation.keep_within(
        {layer: each - lowest for layer, each in free.items()},
        costs.costs,
        goal.value,
        allowed=replace(limits, leave_alone=()).allowed({layer: widths[layer] for layer in free}),
        widths=costs.widths,
        layer_weight="network" if together else "units",
        threads=threads,
    )
    masks = {layer: solution.masks.get(layer, np.ones(units, np.bool_)) for layer, units in widths.items()}
    return masks, solution.cost
