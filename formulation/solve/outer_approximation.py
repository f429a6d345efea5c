"""The relaxation first, integer rounds on top of its cuts."""

from __future__ import annotations

from formulation.deadline import Aftermath, Deadline
from formulation.errors import SolverCrashed
from formulation.relaxation import Reduction
from formulation.score_settings import ScoreSettings
from formulation.solve.result import SolveResult
from formulation.solve.search import Search, SearchProgress


def solve(
    reduction: Reduction,
    settings: ScoreSettings,
    progress: SearchProgress | None = None,
    deadline: Deadline | None = None,
    aftermath: Aftermath = Aftermath(),  # noqa: B008 (frozen)
) -> SolveResult:
    """Minimise the program of a reduced scoring set to the relative gap, the round limit or the time limit.

    Args:
        reduction: the scoring set in score space.
        settings: gap, limits, solver, cuts, and what is whole.
        progress: called with every round.
        deadline: when the time limit passes; by default it begins now.
        aftermath: what follows the search within the time limit.

    Raises:
        SolverUnavailable, SolverFailed, InfeasibleProgram: see `solvers`.
        SolverCrashed: in an integer round; the relaxation's outcome is its `relaxation`.
        TimeLimitReached: there was no time for a single round.
    """
    search = Search(reduction, settings, progress, deadline, aftermath)
    search.begin()
    search.run("relaxation")
    search.keep_what_is_proved()
    relaxed = None
    if settings.integer_scores or (reduction.unstable and not settings.relax):
        relaxed, kept = search.best, search.outcome(None)
        search.restart_from_ones()
        if search.status in ("optimal", "stalled"):
            try:
                search.run("integer")
            except SolverCrashed as crash:
                crash.relaxation = kept
                raise
    return search.outcome(relaxed)
