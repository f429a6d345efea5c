"""The master program: the lowest that all cuts allow within a budget, written in linopy, for any solver.

With cuts c_k + g_k . s, the budget's rows A s <= b of a region, and an excess that makes every region feasible at a
price,

    minimise    theta + price * excess
    subject to  theta >= c_k + g_k . s        for every cut
                A s - excess <= b
                lower <= s <= upper,  excess >= 0

The duals mu of the cuts (they sum to 1) and lambda of the rows are all that a proof needs: see `checks.leaf_bounds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array

from formulation.errors import SolverFailed
from formulation.masks.budgets import Region, Rows
from formulation.masks.inner_problem.dual_cuts import DualCut
from formulation.network import Array, Network
from formulation.relaxation import Cuts, gate_cuts
from formulation.score_settings import ScoreSettings
from formulation.solve import Program, labelled_array, linear_expression, new_model
from formulation.solve.solvers import HighsSession, Session, open_session

LEAST = 1e-3  # s: the shortest time limit that a solver is given
PRICE = 1e3  # of a unit's excess, in the scale of the objective


@dataclass(frozen=True, eq=False)
class MasterAnswer:
    """What the cuts allow.

    Attributes:
        scores: [units]; None where the time limit came first.
        bound: the solver's own optimum.
        excess: by how much the rows are passed: above 0 where no scores keep them.
        weights: mu, [cuts].
        rows: lambda >= 0, [rows].
    """

    scores: Array | None
    bound: float
    excess: float
    weights: Array
    rows: Array


@dataclass(eq=False)
class Master:
    """The master program in a solver's hands: cuts are added, and the region's bounds are moved."""

    network: Network
    rows: Rows
    price: float
    settings: ScoreSettings
    cuts: list[DualCut] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._program = self._written()
        self.session: Session = open_session(self._program, self.settings)
        self._shown = 0
        self._region: Region | None = None

    def _written(self) -> Program:
        model, network = new_model(), self.network
        labels = [
            model.add_variables(lower=0.0, upper=1.0, coords=[(name, np.arange(units))], name=f"score_{name}")
            for name, units in network.units.items()
        ]
        theta = model.add_variables(lower=-self.price, name="theta")
        excess = model.add_variables(lower=0.0, name="excess")
        numbers = [each.labels.values.ravel() for each in (*labels, theta, excess)]
        columns = np.concatenate(numbers)
        count = len(self.rows.most)
        matrix = np.hstack([self.rows.matrix, np.zeros((count, 1)), -np.ones((count, 1))])
        left = linear_expression(model, csr_array(matrix), columns, np.zeros(count), "row")
        right = labelled_array(self.rows.most, [("row", np.arange(count))])
        model.add_constraints(left <= right, name="budget")
        model.add_objective(theta + self.price * excess, sense="min")
        return Program(model, columns, 0.0)

    @property
    def units(self) -> int:
        return self.network.score_count

    def add(self, cuts: Sequence[DualCut]) -> None:
        """Add cuts."""
        self.cuts += cuts

    def restrict(self, region: Region) -> None:
        """Let the scores range over a region from now on; its widths are the business of the rows."""
        self._region = region
        self.session.restrict(np.arange(self.units), region.lower, region.upper)

    def solve(self, time_limit: float) -> MasterAnswer:
        """Minimise.

        Raises SolverFailed as the sessions do, and where a solver gives no duals.
        """
        self._show(self.session, self.cuts[self._shown :])
        self._shown = len(self.cuts)
        answer = self.session.solve(max(LEAST, time_limit), 1e-9)
        nothing = np.zeros(len(self.cuts)), np.zeros(len(self.rows.most))
        if not answer.complete or answer.point is None:
            return MasterAnswer(None, answer.bound, 0.0, *nothing)
        return MasterAnswer(
            np.clip(answer.point[: self.units], 0.0, 1.0), answer.bound, float(answer.point[-1]), *self._duals()
        )

    def _show(self, session: Session, cuts: Sequence[DualCut]) -> None:
        if not cuts:
            return
        matrix = np.hstack([-np.array([cut.slope for cut in cuts]), np.ones((len(cuts), 1)), np.zeros((len(cuts), 1))])
        made = as_cuts(matrix, np.array([cut.constant for cut in cuts]))
        session.add_cuts("cuts", made)

    def _duals(self) -> tuple[Array, Array]:
        """Those of the session's last answer; a solver that gives none lends HiGHS its rows once."""
        session = self.session
        if not isinstance(session, HighsSession):
            session = HighsSession(self._written(), self.settings.for_highs())
            self._show(session, self.cuts)
            if self._region is not None:
                session.restrict(np.arange(self.units), self._region.lower, self._region.upper)
            session.solve(self.settings.time_limit, 1e-9)
        duals = session.duals()
        if duals is None:
            raise SolverFailed(f"{session.name} gives no duals of the master program; use solver='highs'")
        return np.clip(duals.cuts, 0.0, None), np.clip(-duals.named["budget"], 0.0, None)


def as_cuts(matrix: Array, lower: Array) -> Cuts:
    """Rows over [scores | theta | excess] that are open above.

    Args:
        matrix: [rows, columns].
        lower: [rows].
    """
    count = len(lower)
    return gate_cuts(csr_array(matrix), lower, np.full(count, np.inf), np.full((count, 3), -1))
