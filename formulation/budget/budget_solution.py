"""Budget solution: the units of the highest total value within a budget, with a bound on what any choice is worth."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from formulation.budget.budget_program import build_budget_program, worth
from formulation.budget.cost_terms import Costs, CostTerm, fold
from formulation.budget.layer_widths import Choices, choices
from formulation.deadline import Deadline
from formulation.errors import BudgetTooSmall, InfeasibleProgram, InvalidBudget, SolverFailed, TimeLimitReached
from formulation.network import Scores
from formulation.relaxation import gate_cuts
from formulation.score_settings import ScoreSettings
from formulation.solve import import_linopy
from formulation.solve.solvers import Session, open_session, require_options, require_solver

WITHIN = 1e-12  # relative: a cost summed in another order


@dataclass(frozen=True, eq=False)
class BudgetSolution:
    """The units to keep, proved to be the most valuable ones within the budget.

    Attributes:
        masks: kept units (True) by layer.
        widths: how many they are, by layer.
        value, bound: what they are worth, and the most that any choice can be; within the gap of each other.
        cost: of the widths, summed from the costs given; at most the budget.
        status: `optimal`; all else is an error.
    """

    masks: dict[str, NDArray[np.bool_]]
    widths: dict[str, int]
    value: float
    cost: float
    bound: float
    status: str
    solver: str
    solver_version: str
    seconds: float


def keep_within(
    scores: Scores,
    costs: Iterable[CostTerm],
    budget: float,
    *,
    allowed: Mapping[str, Sequence[int]] | None = None,
    widths: Mapping[str, Sequence[int]] | None = None,
    layer_weight: str | Mapping[str, float] = "units",
    solver: str = "highs",
    solver_options: Mapping[str, Any] | None = None,
    time_limit: float = 600.0,
    gap: float = 0.0,
    threads: int = 1,
) -> BudgetSolution:
    """The units of the highest total value whose cost is within the budget.

    The value is sum_k (sum of the kept units' scores) / N_k, as in the program's layer terms; ties within a layer go to
    the earlier unit, between widths of one value to what the solver finds, which is the same every time. Room that the
    solver leaves, for units of no value or within the gap, is filled: the most valuable units stay that fit, then those
    of the layers that keep the smallest parts.

    Args:
        scores: one per unit, by layer; their scale matters across layers, by `layer_weight`.
        costs: (producer, consumer, cost) each, see `formulation.budget.cost_terms.fold`.
        budget: in the costs' unit.
        allowed: by layer, the widths that it may keep, ascending; a layer that is not named may keep any.
        widths: the widths that tables of costs were measured at, ascending; only these are chosen.
        layer_weight: N_k: `units` of the layer, of the `network`; or the factors themselves, by layer.
        solver, solver_options, threads: as in `ScoreSettings`.
        time_limit: seconds, for the whole call.
        gap: relative gap at which the solution counts as optimal, 0: proved to the solver's tolerance.

    Raises:
        InvalidBudget, InvalidSetting, SolverUnavailable: before any work.
        BudgetTooSmall: no allowed widths meet the budget; names the smallest budget that some do.
        TimeLimitReached, SolverFailed: nothing was proved to be optimal.
    """
    import_linopy()
    start = time.monotonic()
    if not math.isfinite(budget) or not 0 <= gap < math.inf:
        raise InvalidBudget(f"budget={budget}, gap={gap}; give a finite budget and a gap of 0 or more")
    settings = ScoreSettings(
        relax=False, solver=solver, solver_options=solver_options or {}, time_limit=time_limit, threads=threads
    )
    deadline = Deadline(settings.time_limit, start + settings.time_limit)
    require_solver(solver)
    require_options(settings)
    layers = choices(scores, allowed=allowed, grids=widths, layer_weight=layer_weight)
    folded = fold(costs, layers, widths)
    # Where no choice can meet it, a solver's tolerance could still let all of them pass, one after the other.
    if folded.least > budget + WITHIN * abs(budget):
        raise _too_small(layers, folded, settings, deadline, budget)
    try:
        found = _choose(layers, folded, settings, deadline, budget, gap)
    except InfeasibleProgram:
        raise _too_small(layers, folded, settings, deadline, budget) from None
    where, session = _filled(found.where, layers, folded, budget), found.session
    value = sum(float(layers[layer].value[at]) for layer, at in where.items())
    kept = {layer: int(layers[layer].widths[at]) for layer, at in where.items()}
    return BudgetSolution(
        masks={layer: layers[layer].mask(width) for layer, width in kept.items()},
        widths=kept,
        value=value,
        cost=folded.of(where),
        bound=max(-found.bound * worth(layers), value),
        status="optimal",
        solver=session.name,
        solver_version=session.version,
        seconds=time.monotonic() - start,
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """Positions of the chosen widths by layer, the solver's lower bound on what was minimised, and its session."""

    where: dict[str, int]
    bound: float
    session: Session


def _choose(
    layers: Mapping[str, Choices],
    costs: Costs,
    settings: ScoreSettings,
    deadline: Deadline,
    budget: float | None,
    gap: float,
) -> _Found:
    """The widths of the highest value within the budget, or without one the cheapest."""
    program = build_budget_program(layers, costs, budget, deadline)
    session = open_session(program, settings)
    ends = np.cumsum([len(each.widths) for each in layers.values()])
    while True:
        answer = session.solve(max(deadline.remaining(), 1e-3), gap)
        if answer.point is None or not answer.complete:
            raise TimeLimitReached(
                f"the time limit of {settings.time_limit:g} s passed before {session.name} had proved which widths are "
                "best; raise time_limit or gap, or allow fewer widths by round_to or widths"
            )
        each = np.split(answer.point, ends[:-1])
        where = {layer: int(np.argmax(z)) for layer, z in zip(layers, each, strict=True)}
        if budget is None or costs.of(where) <= budget + WITHIN * abs(budget):
            return _Found(where, answer.bound, session)
        # The solver's tolerance let it pass the budget by a hair: this one choice is forbidden.
        chosen = np.array(list(where.values())) + ends - [len(own.widths) for own in layers.values()]
        row = csr_array((np.ones(len(chosen)), ([0] * len(chosen), chosen)), shape=(1, int(ends[-1])))
        most = np.array([len(chosen) - 1.0])
        session.add_cuts("passed", gate_cuts(row, np.array([-np.inf]), most, np.zeros((1, 3), dtype=np.int64)))


def _filled(where: Mapping[str, int], layers: Mapping[str, Choices], costs: Costs, budget: float) -> dict[str, int]:
    """Each layer widened, a step at a time, until no step fits the budget without lowering the value."""
    filled = dict(where)
    left = budget + WITHIN * abs(budget) - costs.of(filled)
    while True:
        steps = []
        for layer, own in layers.items():
            at = filled[layer]
            if at + 1 == len(own.widths):
                continue
            gain = float(own.value[at + 1] - own.value[at]) / int(own.widths[at + 1] - own.widths[at])
            more = costs.step(filled, layer)
            if gain >= 0 and more <= left:
                steps.append((gain, -own.widths[at] / own.widths[-1], layer, more))
        if not steps:
            return filled
        *_, layer, more = max(steps)
        filled[layer] += 1
        left -= more


def _too_small(
    layers: Mapping[str, Choices], costs: Costs, settings: ScoreSettings, deadline: Deadline, budget: float
) -> BudgetTooSmall | SolverFailed:
    """The error for a budget that the solver calls impossible: the least cost, by the same program."""
    where = _choose(layers, costs, settings, deadline, None, 0.0).where
    least = costs.of(where)
    if least <= budget:
        return SolverFailed(
            f"{settings.solver} calls budget={budget:.15g} impossible, although widths that cost {least:.15g} exist; "
            "try another solver"
        )
    kept = ", ".join(f"{layer}: {layers[layer].widths[at]}" for layer, at in where.items())
    return BudgetTooSmall(
        f"budget={budget:.15g} cannot be met; the nearest that can is {least:.15g}, at the widths {kept}; give that "
        "much, or lower the floor, round_to or the layers to leave alone"
    )
