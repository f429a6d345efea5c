"""Goals of a removal: how much may go, by accuracy, by share, or by what the network may still cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, get_args

from training import SelectionError

GoalName = Literal["tolerance", "share", "parameters", "multiply_adds", "latency"]
WORDS: Mapping[GoalName, str] = {
    "tolerance": "as much as costs at most {:g} points of {}",
    "share": "{:.0%} of each layer's units",
    "parameters": "until {:.0%} of the parameters remain",
    "multiply_adds": "until {:.0%} of the multiply-adds remain",
    "latency": "until {:.0%} of the measured seconds remain",
}


@dataclass(frozen=True)
class Goal:
    """How much goes: points of a measure that it may cost, a share of units, or the part of a cost that may remain."""

    name: GoalName
    value: float
    measure: str = "accuracy"

    def __str__(self) -> str:
        return WORDS[self.name].format(self.value, self.measure)


def goal_of(given: Mapping[GoalName, float | None], usual: Goal) -> Goal:
    """The one goal that is given, or the usual one; raises SelectionError for two, and for a value out of range."""
    named = {name: value for name, value in given.items() if value is not None}
    for name, value in named.items():
        if not _is_real(value):
            raise SelectionError(f"{name}={value!r} is no number")
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


def _is_real(value: Any) -> bool:
    """Whether a value is a real number, which a bool is not meant to be."""
    return isinstance(value, Real) and not isinstance(value, bool)
