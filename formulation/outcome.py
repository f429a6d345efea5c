"""What a solve found: the incumbent, its bound, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from formulation.errors import SolverFailed, TimeLimitReached
from formulation.network import Array
from formulation.proof import Lagrangian
from formulation.rows import Rows
from formulation.settings import ScoreSettings
from formulation.solution import Proof, Round, Status


@dataclass(frozen=True, eq=False)
class Incumbent:
    """A feasible point, its logits and its true objective."""

    point: Array
    logits: Array
    objective: float
    cross_entropy: float
    sparsity: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a solve ended.

    Attributes:
        incumbent, bound: the best feasible point, and a bound on the optimum: what `proof` proves of the relaxation,
            the solver's word where integer rounds followed.
        rows: every row and plane found.
        relaxed: the relaxed incumbent where integer rounds followed.
        proof, lagrangian: multipliers of the relaxation and what they prove; None where no linear program was finished.
        improved: the incumbent is better than the unpruned network.
    """

    status: Status
    incumbent: Incumbent
    bound: float
    rounds: tuple[Round, ...]
    rows: Rows
    relaxed: Incumbent | None
    proof: Proof | None
    lagrangian: Lagrangian | None
    solver: str
    solver_version: str
    improved: bool

    @property
    def gap(self) -> float:
        return relative_gap(self.incumbent.objective, self.bound)


def relative_gap(objective: float, bound: float) -> float:
    """(objective - bound) / max(1, |objective|), at least 0."""
    return float(max(0.0, objective - bound) / max(1.0, abs(objective)))


def require_closed(outcome: Outcome, settings: ScoreSettings, what: str) -> None:
    """Raise TimeLimitReached or SolverFailed unless the gap was closed before `what`: rows may still be missing."""
    if outcome.status == "optimal":
        return
    reached = f"before {what}, at a relative gap of {outcome.gap:.3g}, {settings.gap:g} was asked for"
    if outcome.status == "time_limit":
        raise TimeLimitReached(f"the time limit of {settings.time_limit:g} s passed {reached}; raise time_limit or gap")
    remedy = "raise max_rounds or gap" if outcome.status == "round_limit" else "raise gap"
    raise SolverFailed(
        f"{outcome.solver} ended by {outcome.status} after {len(outcome.rounds)} rounds {reached}; {remedy}"
    )
