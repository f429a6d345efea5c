"""Proved bound: what the duals of a relaxation prove, and HiGHS's duals for solvers that give none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from formulation.duality import Lagrangian, from_duals, lagrangian
from formulation.errors import SolverFailed
from formulation.relaxation import Cuts, Reduction, SolverDuals
from formulation.score_settings import ScoreSettings
from formulation.solution import DualBound
from formulation.solve.program import build_program
from formulation.solve.solvers import HighsSession

UNPROVED = 1e-6  # of a bound, relative: how much more a solver may claim than its duals prove


@dataclass(eq=False)
class ProvedBound:
    """The best dual bound of a relaxation so far, and the Lagrangian that it belongs to; None before the first."""

    dual_bound: DualBound | None = None
    lagrangian: Lagrangian | None = None

    @property
    def bound(self) -> float:
        """The proved bound, minus infinity before the first."""
        return -math.inf if self.lagrangian is None else self.lagrangian.bound

    def raised_by(self, reduction: Reduction, cuts: Cuts, duals: SolverDuals) -> float:
        """The best proved bound once duals have been taken in; a later dual bound may be lower.

        Args:
            reduction: the scoring set in score space.
            cuts: all with a dual other than 0, or more.
            duals: of a solver, on the relaxed program: those of these cuts.
        """
        dual_bound = from_duals(reduction, cuts, duals)
        made = lagrangian(reduction, dual_bound)
        if self.lagrangian is None or made.bound > self.lagrangian.bound:
            self.dual_bound, self.lagrangian = dual_bound, made
        return self.bound


def duals_by_highs(reduction: Reduction, settings: ScoreSettings, cuts: Cuts, seconds: float) -> SolverDuals | None:
    """HiGHS's duals of the relaxed program with cuts; None where it fails or does not finish.

    Args:
        reduction: the scoring set in score space.
        settings: of another solver's relaxation.
        cuts: those that the other solver's program holds.
        seconds: the time that HiGHS may take.
    """
    fresh = build_program(reduction, settings, integer=False)  # other sessions put cuts into theirs
    session = HighsSession(fresh, settings.for_highs())
    session.add_cuts("pool", cuts)
    try:
        answer = session.solve(seconds, settings.gap)
    except SolverFailed:
        return None  # the other solver's answer stands, its bound unproved
    return session.duals() if answer.complete else None


def require_proved(claimed: float, proved: float, solver: str) -> None:
    """Raise SolverFailed where a solver claims a higher bound than its duals prove.

    Args:
        claimed, proved: bounds on the objective.
        solver: its name.
    """
    if claimed - proved > UNPROVED * max(1.0, abs(proved)):
        raise SolverFailed(
            f"{solver} claims a bound of {claimed:.9g}, its duals prove {proved:.9g}; "
            "try other solver_options or another solver"
        )
