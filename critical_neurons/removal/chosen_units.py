"""Units that go for a goal: by the scores, or by what else the images that judge say is better."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import training
from critical_neurons.progress import Progress
from critical_neurons.removal.cost_goals import WithinCost, part_left, within_cost
from critical_neurons.removal.goals import Goal
from critical_neurons.removal.removal_trial import Measure, Trial, Trials
from formulation import FormulationError
from training import Limits, Masks, Scores, SelectionError

OTHERS_TOOK_OVER = (
    "of each layer go as many units as the scores said, but those that cost the network's answers least: the accuracy "
    "is higher with them"
)
OTHERS_COUNTED = (
    "which units go, and how many of each layer, is what costs the network's answers least: the accuracy is higher "
    "than with the scores"
)
SUMS_STAY = (
    "layers whose outputs are summed with those of others, as in a residual stream, keep all units: that is better "
    "than to take some of theirs"
)


@dataclass(frozen=True, eq=False)
class ChosenUnits:
    """The masks, the network without the units, how many were looked at, what remains of a cost (or 0), and a note."""

    masks: Masks
    trial: Trial
    tried: int
    remaining: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Removable:
    """The units that may go.

    Attributes:
        values: by layer, one per unit; the lowest go first.
        limits: floors, and layers that keep all units.
        together: whether values of different layers compare.
        summed: layers whose outputs are summed with those of others, and that may be better left whole; not all layers.
    """

    values: Scores
    limits: Limits
    together: bool
    summed: tuple[str, ...] = ()


def units_for_goal(goal: Goal, trials: Trials, units: Removable, before: float, progress: Progress) -> ChosenUnits:
    """Which units go for a goal.

    Args:
        goal: how much goes.
        trials: make and judge networks without units.
        units: that may go.
        before: the dense network's accuracy, or R^2, on the images that judge.
        progress: told of every network on the way to a tolerance.

    Returns:
        The masks, and the network without these units.

    Raises:
        SelectionError, UnsupportedGraph, FormulationError: as `prune`.
    """
    values, limits = units.values, units.limits
    if goal.name == "share":
        return _best(trials, training.by_share(values, goal.value, limits).masks, 1)
    if goal.name != "tolerance":
        return _within(goal, trials, units, progress)
    return _tolerated(goal, trials, units, before, progress)


def _tolerated(goal: Goal, trials: Trials, units: Removable, before: float, progress: Progress) -> ChosenUnits:
    """The largest share of each layer's units that the tolerance allows, of all layers or of those apart from sums.

    Of both the one that leaves fewer multiply-adds.
    """
    found = training.smallest_share(
        training.by_share,
        units.values,
        units.limits,
        units.summed,
        _told(lambda masks: trials.best(masks)[1].accuracy, progress, trials.measure),
        before - goal.value / 100,
        lambda masks: training.removal(trials.dense, trials.followed(masks), trials.fitted_to[:1]).multiply_adds_after,
    )
    # Made once more: so many networks need not be kept until it is known which.
    chosen = _best(trials, found.point.selection.masks, found.tried)
    return replace(chosen, notes=(*chosen.notes, SUMS_STAY if found.apart else ""))


def _within(goal: Goal, trials: Trials, units: Removable, progress: Progress) -> ChosenUnits:
    """Within a cost: the units and numbers that the values say, or what is better of other ways to choose."""
    example = trials.fitted_to[:1]

    def within_goal(way: Removable) -> WithinCost:
        given = (way.values, goal, way.limits, example)
        return within_cost(trials.dense, *given, together=way.together, threads=trials.threads)

    within = within_goal(units)

    def left(masks: Masks) -> float:
        # Measured seconds are of widths alone; of grouped convolutions which units go counts as well.
        return within.cost if goal.name == "latency" else part_left(trials.dense, masks, goal, units.limits, example)

    chosen = _best(trials, within.masks, 1, within.note, lambda masks: left(masks) <= goal.value)
    # Seconds would have to be measured once more.
    for way, notes in () if goal.name == "latency" else _other_ways(trials, units):
        try:
            own = within_goal(way)
        except (SelectionError, FormulationError):
            continue  # what was chosen by the scores stands
        trial = trials.without(own.masks)
        progress(f"prune    another choice within {goal}: {trials.measure} {trial.accuracy:.2%}")
        chosen = replace(chosen, tried=chosen.tried + 1)
        if trial.accuracy > chosen.trial.accuracy:
            chosen = replace(chosen, masks=own.masks, trial=trial, notes=(own.note, *notes))
    return replace(chosen, remaining=left(chosen.masks))


def _other_ways(trials: Trials, units: Removable) -> Iterator[tuple[Removable, tuple[str, ...]]]:
    """Other values, other layers, and both, each with what is said where it is better."""
    for ranking in trials.others:
        yield replace(units, values=units.values | ranking, together=True), (OTHERS_COUNTED,)
    if units.summed:
        apart = replace(units, limits=replace(units.limits, leave_alone=(*units.limits.leave_alone, *units.summed)))
        yield apart, (SUMS_STAY,)
        for ranking in trials.others:
            yield replace(apart, values=units.values | ranking, together=True), (OTHERS_COUNTED, SUMS_STAY)


def _told(accuracy: Callable[[Masks], float], progress: Progress, measure: Measure) -> Callable[[Masks], float]:
    """The same, and what each network came to is told."""
    tried = itertools.count(1)

    def measured(masks: Masks) -> float:
        began = time.monotonic()
        found = accuracy(masks)
        gone, units = sum(int((~mask).sum()) for mask in masks.values()), sum(map(len, masks.values()))
        seconds = time.monotonic() - began
        went = f"{gone} of {units} units go"
        progress(f"prune    network {next(tried)}: {went}, {measure} {found:.2%}, {seconds:.1f} s")
        return found

    return measured


def _best(
    trials: Trials, masks: Masks, tried: int, note: str = "", fits: Callable[[Masks], bool] = lambda _masks: True
) -> ChosenUnits:
    found, trial = trials.best(masks, fits)
    notes = (note, "" if found is masks else OTHERS_TOOK_OVER)
    return ChosenUnits(found, trial, tried * (1 + len(trials.others)), 0.0, notes)
