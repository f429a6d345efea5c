"""Which units to keep under a budget: a small integer program over how many of them each layer keeps.

A layer keeps its units with the highest scores, so only the widths n_k are to be chosen. With the binary z_kn for
"layer k keeps n units", V_kn the worth of the n highest (see `keep_within`) and c the cost,

    maximise    sum_k sum_n V_kn z_kn
    subject to  sum_n z_kn = 1                                      for each layer k
                constant + sum_k sum_n c_kn z_kn + sum over pairs (p, c) of their cost <= budget

A pair of layers that feed each other costs a product of widths, or what a table says. Two exact linear forms, with m a
width of the producer p and n one of the consumer c:

    carried:    the cost is rate * sum_n n f_n, where f_n = z_cn * n_p through
                sum_n f_n = sum_m m z_pm
                least_p z_cn <= f_n <= most_p z_cn                  (least_p, most_p: the smallest and largest m)
    paired:     the cost is sum_mn T_mn w_mn, where w_mn = z_pm z_cn through
                sum_n w_mn = z_pm,  sum_m w_mn = z_cn,  w >= 0

`carried` has one variable per width of the consumer, and its relaxation gets weaker with every pair; `paired` has one
per pair of widths, and its relaxation is that of a path through the layers with one side constraint, which is tight.
On chains with up to SHORT products `carried` took HiGHS about a tenth of the CPU time or less; with 12 of them (VGG-16
in steps of 8 units) `paired` was solved in seconds and `carried` was not within two minutes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import linopy
import numpy as np
from linopy import LinearExpression, Model, Variable
from numpy.typing import NDArray
from scipy.sparse import csr_array
from xarray import DataArray

from formulation.costs import Cost, Costs, fold
from formulation.errors import BudgetTooSmall, InfeasibleProgram, InvalidBudget, SolverFailed, TimeLimitReached
from formulation.network import Array, Scores
from formulation.program import Program
from formulation.rows import gate_rows
from formulation.settings import ScoreSettings
from formulation.solvers import Session, open_session, require_options, require_solver
from formulation.widths import Choices, choices

SHORT = 3
CELLS = 500_000  # pairs of widths above which `paired` would not fit a small machine
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
    costs: Iterable[Cost],
    budget: float,
    *,
    floor: int | Mapping[str, int] = 1,
    round_to: int = 1,
    leave_alone: Sequence[str] = (),
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
    the earlier unit, between widths of one value to what the solver finds, which is the same every time.

    Args:
        scores: one per unit, by layer; their scale matters across layers, by `layer_weight`.
        costs: (producer, consumer, cost) each, see `formulation.costs.fold`.
        budget: in the costs' unit.
        floor: how many units a layer keeps at least, for all or by layer (name or pattern).
        round_to: kept widths are multiples of it, or the whole layer.
        leave_alone: layers (names or patterns) that keep all units.
        widths: the widths that tables of costs were measured at, ascending; only these are chosen.
        layer_weight: N_k: `units` of the layer, of the `network`; or the factors themselves, by layer.
        solver, solver_options, time_limit (s, for the whole call), threads: as in `ScoreSettings`.
        gap: relative gap at which the solution counts as optimal, 0: proved to the solver's tolerance.

    Raises:
        InvalidBudget, InvalidSetting, SolverUnavailable: before any work.
        BudgetTooSmall: no allowed widths meet the budget; names the smallest budget that some do.
        TimeLimitReached, SolverFailed: nothing was proved to be optimal.
    """
    start = time.monotonic()
    if not math.isfinite(budget) or not 0 <= gap < math.inf:
        raise InvalidBudget(f"budget={budget}, gap={gap}; give a finite budget and a gap of 0 or more")
    settings = ScoreSettings(
        relax=False, solver=solver, solver_options=solver_options or {}, time_limit=time_limit, threads=threads
    )
    require_solver(solver)
    require_options(settings)
    layers = choices(
        scores, floor=floor, round_to=round_to, leave_alone=leave_alone, grids=widths, layer_weight=layer_weight
    )
    folded, deadline = fold(costs, layers, widths), start + time_limit
    # Where no choice can meet it, a solver's tolerance could still let all of them pass, one after the other.
    if folded.least > budget + WITHIN * abs(budget):
        raise _too_small(layers, folded, settings, deadline, budget)
    try:
        found = _choose(layers, folded, settings, deadline, budget, gap)
    except InfeasibleProgram:
        raise _too_small(layers, folded, settings, deadline, budget) from None
    where, session = found.where, found.session
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
    deadline: float,
    budget: float | None,
    gap: float,
) -> _Found:
    """The widths of the highest value within the budget, or without one the cheapest."""
    program = build(layers, costs, budget)
    session = open_session(program, settings)
    ends = np.cumsum([len(each.widths) for each in layers.values()])
    while True:
        answer = session.solve(max(deadline - time.monotonic(), 1e-3), gap)
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
        session.add_rows("passed", gate_rows(row, np.array([-np.inf]), most, np.zeros((1, 3), dtype=np.int64)))


def _too_small(
    layers: Mapping[str, Choices], costs: Costs, settings: ScoreSettings, deadline: float, budget: float
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


def build(layers: Mapping[str, Choices], costs: Costs, budget: float | None) -> Program:
    """The program of the module's docstring, as a minimisation of minus the value; without a budget, of the cost.

    The value is in parts of `worth`, the cost in parts of that of keeping everything: a solver's tolerances are
    absolute, and so mean the same in every unit. The constant cost is left out.

    Columns: `keep_<layer>` (z), `carried_<producer>_<consumer>` (f) or `paired_<producer>_<consumer>` (w), over
    dimensions that bear the layers' names, with the widths as coordinates.
    """
    model = Model()
    keep = {
        layer: model.add_variables(coords=[(layer, own.widths)], binary=True, name=f"keep_{layer}")
        for layer, own in layers.items()
    }
    for layer, z in keep.items():
        model.add_constraints(z.sum() == 1, name=f"one_{layer}")
    scale = max(abs(costs.of({layer: len(own.widths) - 1 for layer, own in layers.items()}) - costs.constant), 1e-300)
    parts = [(_over(own / scale, keep[layer]) * keep[layer]).sum() for layer, own in costs.own.items() if own.any()]
    short = len(costs.pairs) <= SHORT
    for (producer, consumer), table in costs.pairs.items():
        rate = costs.products.get((producer, consumer))
        z = keep[producer], keep[consumer]
        if rate is not None and (short or table.size > CELLS):
            parts.append(add_carried(model, f"{producer}_{consumer}", *z, rate / scale))
        else:
            parts.append(add_paired(model, f"{producer}_{consumer}", *z, table / scale))
    total = linopy.merge(parts, dim="_term") if parts else None
    if budget is None:
        objective = total if total is not None else 0 * keep[next(iter(keep))].sum()
    else:
        whole = worth(layers)
        objective = linopy.merge(
            [(_over(-own.value / whole, keep[layer]) * keep[layer]).sum() for layer, own in layers.items()], dim="_term"
        )
        if total is not None:
            model.add_constraints(total <= (budget - costs.constant) / scale, name="budget")
    model.add_objective(objective, sense="min")
    return Program(model, np.concatenate([z.labels.values for z in keep.values()]), 0.0)


def worth(layers: Mapping[str, Choices]) -> float:
    """The unit of the program's value: the largest that a width has, of either sign; 1 where all are 0."""
    return max(float(np.abs(own.value).max()) for own in layers.values()) or 1.0


def add_carried(model: Model, name: str, producer: Variable, consumer: Variable, rate: float) -> LinearExpression:
    """Add f over the consumer's widths and return rate * sum_n n f_n.

    sum_n f_n = sum_m m z_pm                            `carried_<name>`
    f_n >= least_p z_cn                                 `least_<name>`
    f_n <= most_p z_cn                                  `most_<name>`
    """
    (dim_p,), (dim_c,) = producer.dims, consumer.dims
    m, n = producer.coords[dim_p].astype(float), consumer.coords[dim_c].astype(float)
    f = model.add_variables(lower=0.0, coords=[consumer.indexes[dim_c]], name=f"carried_{name}")
    model.add_constraints(f.sum() - (m * producer).sum() == 0, name=f"carried_{name}")
    model.add_constraints(f - float(m.min()) * consumer >= 0, name=f"least_{name}")
    model.add_constraints(f - float(m.max()) * consumer <= 0, name=f"most_{name}")
    return (rate * n * f).sum()


def add_paired(model: Model, name: str, producer: Variable, consumer: Variable, table: Array) -> LinearExpression:
    """Add w over pairs of widths and return sum_mn T_mn w_mn.

    sum_n w_mn = z_pm                                   `producer_<name>`
    sum_m w_mn = z_cn                                   `consumer_<name>`
    """
    (dim_p,), (dim_c,) = producer.dims, consumer.dims
    coords = [producer.indexes[dim_p], consumer.indexes[dim_c]]
    w = model.add_variables(lower=0.0, coords=coords, name=f"paired_{name}")
    model.add_constraints(w.sum(dim_c) - producer == 0, name=f"producer_{name}")
    model.add_constraints(w.sum(dim_p) - consumer == 0, name=f"consumer_{name}")
    return (DataArray(table, coords=coords, dims=[dim_p, dim_c]) * w).sum()


def _over(values: Array, variable: Variable) -> DataArray:
    return DataArray(values, coords=variable.coords)
