"""Solve result: the incumbent, its bound, and how the search ended."""

from __future__ import annotations

from dataclasses import dataclass

from formulation.duality import Lagrangian
from formulation.errors import SolverFailed, TimeLimitReached
from formulation.relaxation import Cuts
from formulation.score_settings import ScoreSettings
from formulation.solution import DualBound, Round, Status, relative_gap
from formulation.solve.incumbents import Incumbent


@dataclass(frozen=True, eq=False)
class SolveResult:
    """How a solve ended.

    Attributes:
        incumbent, bound: the best feasible point, and a bound on the optimum: what
            `dual_bound` proves of the relaxation, the solver's word where integer rounds followed.
        cuts: every cut found.
        relaxed: the relaxed incumbent where integer rounds followed.
        dual_bound, lagrangian: duals of the relaxation and what they prove; None where no linear program was finished.
        improved: the incumbent is better than the unpruned network.
    """

    status: Status
    incumbent: Incumbent
    bound: float
    rounds: tuple[Round, ...]
    cuts: Cuts
    relaxed: Incumbent | None
    dual_bound: DualBound | None
    lagrangian: Lagrangian | None
    solver: str
    solver_version: str
    improved: bool

    @property
    def gap(self) -> float:
        return relative_gap(self.incumbent.objective, self.bound)


def require_closed(outcome: SolveResult, settings: ScoreSettings, what: str) -> None:
    """Raise TimeLimitReached or SolverFailed unless the gap was closed: cuts may still be missing.

    Args:
        outcome: of a search.
        settings: its limits and gap, which the error names.
        what: the work that needed a closed gap, in words.
    """
    if outcome.status == "optimal":
        return
    reached = f"before {what}, at a relative gap of {outcome.gap:.3g}, {settings.gap:g} was asked for"
    if outcome.status == "time_limit":
        raise TimeLimitReached(f"the time limit of {settings.time_limit:g} s passed {reached}; raise time_limit or gap")
    remedy = "raise max_rounds or gap" if outcome.status == "round_limit" else "raise gap"
    raise SolverFailed(
        f"{outcome.solver} ended by {outcome.status} after {len(outcome.rounds)} rounds {reached}; {remedy}"
    )
