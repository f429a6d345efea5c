"""Score ranges: the least and largest value of a score within the gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from formulation.deadline import Deadline
from formulation.errors import TimeLimitReached
from formulation.network import Array
from formulation.relaxation import with_jacobians
from formulation.solution import Solution
from formulation.solve import Search, require_closed
from formulation.solve.solvers import HighsSession
from formulation.verify import stored_reduction

Ranges = dict[str, tuple[Array, Array]]


def score_ranges(
    model: Any,
    images: Any,
    labels: Any,
    solution: Solution,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Ranges:
    """The lowest and highest score of every unit over all scores of the relaxed program within the gap.

        least and most s_j  subject to  objective <= bound + gap max(1, |objective|)  and the cuts found

    The bound is the better one of the search's and a relaxed solution's; the limit is never below the objective of
    either, so that a relaxed solution whose own gap stayed open lies in its ranges too.
    The cuts hold for every feasible point, so no score within the gap lies outside its range; it may be
    somewhat smaller than its range. Two linear programs per unit, by HiGHS.

    Args:
        model, images, labels: what the solution was made for.
        solution: of `score`; its scores are where the search starts.
        progress: called with the units done and the units in all.

    Raises:
        InvalidSolution: another model or other images, or a damaged solution.
        TimeLimitReached: `time_limit` of the solution's settings passed.
        SolverFailed: the relaxed program's gap was not closed within `max_rounds`, or by no further cut.
    """
    stored = stored_reduction(model, images, labels, solution)
    deadline = Deadline.after(stored.settings.time_limit)
    reduction = with_jacobians(stored, deadline=deadline)
    settings = replace(reduction.settings.for_highs(), relax=True, integer_scores=False, allow_degenerate=True)
    search = Search(reduction, replace(settings, break_ties=False), None, deadline=deadline)
    search.begin(reduction.network.stack(solution.scores))
    search.run("relaxation")
    require_closed(search.outcome(None), settings, "the ranges")
    session = search.session
    assert isinstance(session, HighsSession)
    session.limit_objective(_most(search, solution))
    lowest, highest = np.zeros(reduction.scores), np.ones(reduction.scores)
    for column in range(reduction.scores):
        for sign, ends in ((1.0, lowest), (-1.0, highest)):
            if search.remaining() <= 0:
                raise TimeLimitReached(
                    f"the time limit of {settings.time_limit:g} s passed after {column} of {reduction.scores} ranges; "
                    "raise time_limit or use fewer images"
                )
            session.set_objective(np.array([column]), np.array([sign]))
            answer = session.solve(search.remaining(), settings.gap)
            if answer.complete:
                ends[column] = float(np.clip(sign * answer.bound, 0.0, 1.0))
        if progress is not None:
            progress(column + 1, reduction.scores)
    low, high = reduction.network.unstack(lowest), reduction.network.unstack(highest)
    return {name: (low[name], high[name]) for name in low}


def _most(search: Search, solution: Solution) -> float:
    """The largest objective within the gap of the best bound known, never below one that was found."""
    settings, certificate = search.reduction.settings, solution.certificate
    relaxed = not settings.integer_scores and (settings.relax or not search.reduction.unstable)
    bound, objective = search.bound, search.best.objective
    most = objective
    if relaxed:
        bound, most = max(bound, certificate.bound), max(most, certificate.objective)
    return max(most, bound + settings.gap * max(1.0, abs(objective)))
