"""Feasible masks by an integer program: one mask within a budget where rounding finds none, or that there is none.

Over the rows A s <= b of the whole budget, distances included,

    minimise    excess
    subject to  A s - excess <= b,    s in {0, 1},  excess >= 0

Its optimum is above 0 exactly where no mask keeps the rows. They are the budget's own, but for products of widths, of
which they are a relaxation: there widths are halved until one of each two is fixed, and the rows are exact.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from formulation.deadline import Deadline
from formulation.errors import InvalidBudget
from formulation.masks.budgets import Branch, MaskBudget, Region, admits, rows_of
from formulation.network import Array, Network
from formulation.score_settings import ScoreSettings
from formulation.solve import Program, labelled_array, linear_expression, new_model
from formulation.solve.solvers import open_session

PASSED = 1e-6  # by which rows count as passed


def feasible_mask(
    network: Network, budget: MaskBudget, mask: Array, settings: ScoreSettings, deadline: Deadline
) -> Array:
    """Any mask within a budget, [units].

    Args:
        network: whose units are chosen.
        budget: the limits.
        mask: m, the mask so far, [units].
        settings: the solver, its options and threads.
        deadline: by which the solver must have ended.

    Raises:
        InvalidBudget: there is none.
        TimeLimitReached: the deadline came first.
        SolverUnavailable, SolverFailed: as the sessions do.
    """
    regions = [Region.whole(network)]
    while regions:
        region = regions.pop()
        deadline.require("a mask within the budget")
        answer = open_session(_program(network, budget, mask, region), settings).solve(deadline.remaining(), 1e-9)
        found = None if answer.point is None else np.round(answer.point[:-1])
        if found is not None and admits(network, budget, mask, found):
            return found
        if found is None or not answer.complete:
            deadline.require("a mask within the budget", deadline.limit)
        elif answer.bound <= PASSED:
            regions += _split(network, budget, region, found)
    others = len(budget.distances)
    far = f" that is far enough from {others} others; lower the distance, or ask for fewer masks"
    raise InvalidBudget(f"no mask is left within the budget{far if others else '; raise a limit'}")


def _split(network: Network, budget: MaskBudget, region: Region, found: Array) -> list[Region]:
    """A region in two, by the width of the first layer of a product that has several there; none where none has."""
    products = [term[:2] for limit in budget.costs for term in limit.terms if None not in term[:2]]
    for which, (name, where) in enumerate(network.score_slices.items()):
        least, most = int(region.least[which]), int(region.most[which])
        if least < most and any(name in ends for ends in products):
            at = min(max(round(float(found[where].sum())), least), most - 1)
            return [region.after(Branch("width", which, at, above)) for above in (True, False)]
    return []


def _program(network: Network, budget: MaskBudget, mask: Array, region: Region) -> Program:
    model = new_model()
    labels = [
        model.add_variables(coords=[(name, np.arange(units))], binary=True, name=f"score_{name}")
        for name, units in network.units.items()
    ]
    excess = model.add_variables(lower=0.0, name="excess")
    columns = np.concatenate([each.labels.values.ravel() for each in (*labels, excess)])
    rows = rows_of(network, budget, mask, region)
    count = len(rows.most)
    matrix = csr_array(np.hstack([rows.matrix, -np.ones((count, 1))]))
    left = linear_expression(model, matrix, columns, np.zeros(count), "row")
    model.add_constraints(left <= labelled_array(rows.most, [("row", np.arange(count))]), name="budget")
    model.add_objective(1.0 * excess, sense="min")
    return Program(model, columns, 0.0)
