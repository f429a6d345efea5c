"""The relaxation first, integer rounds on top of its rows and planes."""

from __future__ import annotations

from formulation.outcome import Outcome
from formulation.reduction import Reduction
from formulation.search import Progress, Search
from formulation.settings import ScoreSettings


def solve(reduction: Reduction, settings: ScoreSettings, progress: Progress | None = None) -> Outcome:
    """Minimise the program of a reduced scoring set to the relative gap, the round limit or the time limit.

    Args:
        reduction: the scoring set in score space.
        settings: gap, limits, solver, cuts, and what is whole.
        progress: called with every round.

    Raises:
        SolverUnavailable, SolverFailed, InfeasibleProgram: see `solvers`.
    """
    search = Search(reduction, settings, progress)
    search.begin()
    search.run("relaxation")
    search.keep_what_is_proved()
    relaxed = None
    if settings.integer_scores or (reduction.undecided and not settings.relax):
        relaxed = search.best
        search.restart_from_ones()
        if search.status in ("optimal", "stalled"):
            search.run("integer")
    return search.outcome(relaxed)
