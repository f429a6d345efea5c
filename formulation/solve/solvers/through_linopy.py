"""Solvers without a session of their own: linopy hands the whole program over in every round.

`LinopySession` keeps the rows, checks what comes back and words the answer; `ask_solver` is the one call that
differs. Here it is linopy's own `solve`, which serves every solver that linopy knows; SCIP, CBC and GLPK answer more
of what we need (bounds, full precision, exit codes) when they are asked in their own sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array

from formulation.errors import InfeasibleProgram, SolverFailed
from formulation.network import Array, Index
from formulation.relaxation import Cuts, stack_cuts
from formulation.score_settings import ScoreSettings
from formulation.solve.program import Program
from formulation.solve.solvers.session import Answer

if TYPE_CHECKING:
    from xarray import DataArray

RESIDUAL = 1e-5  # of a row, relative to the sum of its terms where that exceeds 1; GLPK's own tolerance is 1e-6
DISAGREEMENT = 1e-4  # between a solver's optimum and what its own duals prove, relative
REACH = 2.0  # an unbounded column is taken to stay within this many times its value

TIME_OPTION: Mapping[str, str] = {
    "gurobi": "TimeLimit", "cplex": "timelimit", "xpress": "timelimit", "copt": "TimeLimit",
    "mosek": "MSK_DPAR_OPTIMIZER_MAX_TIME",
}  # fmt: skip
GAP_OPTION: Mapping[str, str] = {
    "gurobi": "MIPGap", "cplex": "mip.tolerances.mipgap", "xpress": "miprelstop", "copt": "RelGap",
    "mosek": "MSK_DPAR_MIO_TOL_REL_GAP",
}  # fmt: skip
THREADS_OPTION: Mapping[str, str] = {
    "gurobi": "Threads", "cplex": "threads", "xpress": "threads", "copt": "Threads",
    "mosek": "MSK_IPAR_NUM_THREADS",
}  # fmt: skip
PACKAGE: Mapping[str, str] = {"gurobi": "gurobipy", "copt": "coptpy", "mosek": "Mosek"}


@dataclass(frozen=True, eq=False)
class Told:
    """What a solver said, in the order of linopy's matrices: columns, rows (None where it said nothing), a bound."""

    values: Array | None
    bound: float
    complete: bool
    duals: Array | None = None


class LinopySession:
    """Any solver that linopy knows, through linopy."""

    def __init__(self, program: Program, settings: ScoreSettings) -> None:
        self.name, self.version = settings.solver, self._own_version(settings.solver)
        self._program, self._settings = program, settings
        self._whole = program.model.type == "MILP"
        self._cuts = stack_cuts([], len(program.labels))
        self._stale = False

    @staticmethod
    def _own_version(solver: str) -> str:
        try:
            return metadata.version(PACKAGE.get(solver, solver))
        except metadata.PackageNotFoundError:
            return "unknown"

    def add_cuts(self, name: str, cuts: Cuts) -> None:
        self._cuts = stack_cuts([self._cuts, cuts], len(self._program.labels))
        self._stale = True

    def fix(self, columns: Index, values: Array) -> None:
        self.restrict(columns, values, values)

    def restrict(self, columns: Index, lower: Array, upper: Array) -> None:
        model, chosen = self._program.model, self._program.labels[columns].tolist()
        least, most = (dict(zip(chosen, np.asarray(b, dtype=float).tolist(), strict=True)) for b in (lower, upper))
        for _, variable in model.variables.items():
            labels = variable.labels.values

            def bounded(old: DataArray, new: dict[int, float], labels: Index = labels) -> DataArray:
                made = [new.get(int(k), v) for k, v in zip(labels.ravel(), old.values.ravel(), strict=True)]
                return old.copy(data=np.array(made).reshape(labels.shape))

            variable.update(lower=bounded(variable.lower, least), upper=bounded(variable.upper, most))

    def solve(self, time_limit: float, gap: float) -> Answer:
        self._hand_over_cuts()
        matrices = self._program.model.matrices
        told = self.ask_solver(matrices, time_limit, gap)
        point, bound = None, told.bound
        if told.values is not None:
            require_point(self.name, matrices, told.values)
            position = np.zeros(int(matrices.vlabels.max()) + 1, dtype=np.int64)
            position[matrices.vlabels] = np.arange(len(matrices.vlabels))
            point = told.values[position[self._program.labels]]
            if not self._whole and told.duals is not None:
                bound = min(bound, proved_bound(self.name, matrices, told))
        return Answer(point, bound, told.complete)

    def _hand_over_cuts(self) -> None:
        model = self._program.model
        if not self._stale:
            return
        for name in ("rows_least", "rows_most"):
            if name in model.constraints:
                model.remove_constraints(name)
        self._program.add_cuts("rows", self._cuts)
        self._stale = False

    def ask_solver(self, matrices: Any, time_limit: float, gap: float) -> Told:
        model, name = self._program.model, self.name
        options = dict(self._settings.solver_options)
        if name in TIME_OPTION:
            options[TIME_OPTION[name]] = time_limit
        if name in THREADS_OPTION:
            options.setdefault(THREADS_OPTION[name], self._settings.threads)
        if self._whole and name in GAP_OPTION:
            options[GAP_OPTION[name]] = gap
        _, condition = model.solve(solver_name=name, progress=False, **options)
        if condition == "infeasible":
            raise infeasible(name)
        if condition not in ("optimal", "time_limit"):
            raise SolverFailed(f"{name} ended with '{condition}'; look at its log, its licence and solver_options")
        complete = condition == "optimal"
        objective = model.objective.value
        values = None
        if objective is not None and np.isfinite(objective) and (complete or self._whole):
            by_label = np.zeros(int(matrices.vlabels.max()) + 1)
            for _, variable in model.variables.items():
                by_label[variable.labels.values.ravel()] = variable.solution.values.ravel()
            values = by_label[matrices.vlabels]
        duals = self._linopy_duals(matrices) if complete and not self._whole else None
        return Told(values, self._bound(objective, gap, complete), complete, duals)

    def _linopy_duals(self, matrices: Any) -> Array | None:
        """The duals that linopy read, where the solver gave some."""
        found: dict[int, float] = {}
        for _, constraint in self._program.model.constraints.items():
            if "dual" not in constraint.data:
                return None
            found |= dict(zip(constraint.labels.values.ravel().tolist(), constraint.dual.values.ravel(), strict=True))
        duals = np.array([found[label] for label in matrices.clabels.tolist()], dtype=float)
        return duals if np.isfinite(duals).all() else None

    def _bound(self, objective: float | None, gap: float, complete: bool) -> float:
        told = getattr(getattr(self._program.model.solver, "report", None), "dual_bound", None)
        if self._whole and told is not None and np.isfinite(told):
            return float(told)
        if not complete or objective is None:
            return -np.inf
        # a solver that reports no bound ended within its relative gap
        return float(objective) - (gap * max(1.0, abs(objective)) if self._whole else 0.0)


def infeasible(name: str) -> InfeasibleProgram:
    """The error for a program that a solver calls infeasible."""
    return InfeasibleProgram(
        f"{name} calls the program infeasible, although the unpruned network satisfies it; check solver_options"
    )


def require_point(name: str, matrices: Any, values: Array) -> None:
    """Raise SolverFailed unless the values are finite and satisfy rows, bounds and integrality to 1e-5."""
    if not np.isfinite(values).all():
        raise SolverFailed(f"{name} answered NaN or infinite values; try other solver_options or another solver")
    matrix = csr_array(matrices.A)
    over = matrix @ values - matrices.b
    scale = np.maximum(1.0, abs(matrix) @ abs(values))
    found = {
        "a row": np.where(matrices.sense == "<", over, np.where(matrices.sense == ">", -over, abs(over))) / scale,
        "a bound": np.maximum(matrices.lb - values, values - matrices.ub),
        "integrality": np.where(np.isin(matrices.vtypes, ["B", "I"]), abs(values - np.round(values)), 0.0),
    }
    for what, amount in found.items():
        if np.max(amount, initial=0.0) > RESIDUAL:
            raise SolverFailed(
                f"{name} answered a point that violates {what} of its program by {np.max(amount):.1e}; "
                "try other solver_options or another solver"
            )


def proved_bound(name: str, matrices: Any, told: Told) -> float:
    """What the duals y of a linear program prove: y b + sum_j min of (c - A'y)_j x_j over the bounds of x_j.

    Raises:
        SolverFailed: it is far below the objective that the solver calls optimal.
    """
    assert told.duals is not None
    assert told.values is not None
    y = np.where(matrices.sense == "<", np.minimum(told.duals, 0), told.duals)
    y = np.where(matrices.sense == ">", np.maximum(y, 0), y)
    reduced = np.asarray(matrices.c, dtype=float) - csr_array(matrices.A).T @ y
    reach = REACH * np.maximum(1.0, abs(told.values))
    lower = np.where(np.isfinite(matrices.lb), matrices.lb, -reach)
    upper = np.where(np.isfinite(matrices.ub), matrices.ub, reach)
    proved = float(y @ matrices.b + np.where(reduced > 0, reduced * lower, reduced * upper).sum())
    if not proved >= told.bound - DISAGREEMENT * max(1.0, abs(told.bound)):
        raise SolverFailed(
            f"{name} calls {told.bound:.9g} optimal, but its duals prove only {proved:.9g}; "
            "try other solver_options or another solver"
        )
    return proved
