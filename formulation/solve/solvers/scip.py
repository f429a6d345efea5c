"""SCIP: linopy writes the program, SCIP reads it; linear programs in this process, integer ones in one of their own."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyscipopt
from scipy.sparse import csr_array

from formulation.errors import SolverFailed
from formulation.network import Array
from formulation.solve.solvers.process import SolverProcess
from formulation.solve.solvers.through_linopy import LinopySession, Told, infeasible

OURS = {
    "misc/catchctrlc": False,  # an interruption belongs to the caller
    "numerics/feastol": 1e-9,
    "numerics/dualfeastol": 1e-9,
}
AT_BOUND = 1e-8
ENDED = ("optimal", "gaplimit", "timelimit")


class ScipSession(LinopySession):
    """SCIP: its own dual bound, and duals of a linear program that it solves as it stands."""

    _process: SolverProcess | None = None

    @staticmethod
    def _own_version(solver: str) -> str:
        scip = pyscipopt.Model()
        return f"{scip.getMajorVersion()}.{scip.getMinorVersion()}.{scip.getTechVersion()}"

    def ask_solver(self, matrices: Any, time_limit: float, gap: float) -> Told:
        return self._isolated(matrices, time_limit, gap) if self._whole else self._in_place(matrices, time_limit)

    def _isolated(self, matrices: Any, time_limit: float, gap: float) -> Told:
        """An integer program, in a process of its own."""
        if self._process is None:
            self._process = SolverProcess(self.name, self.version, "pyscipopt")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="scip") as folder:
            path = Path(folder) / "program.lp"
            self._program.model.to_file(path, progress=False)
            request = {"path": str(path), "gap": gap, "options": OURS | dict(self._settings.solver_options)}
            told = self._process.ask(request, max(time_limit - (time.monotonic() - started), 0.0))
        if told is None:
            return Told(None, -np.inf, complete=False)
        self._require_ended(told["status"])
        values = None if told["values"] is None else in_order(told["values"], "x", matrices.vlabels)
        bound = told["bound"] if abs(told["bound"]) < told["infinite"] else -np.inf
        return Told(values, bound, told["status"] != "timelimit")

    def _in_place(self, matrices: Any, time_limit: float) -> Told:
        """A linear program, with the duals of its rows."""
        scip = pyscipopt.Model()
        scip.hideOutput()
        with tempfile.TemporaryDirectory(prefix="scip") as folder:
            path = Path(folder) / "program.lp"
            self._program.model.to_file(path, progress=False)
            scip.readProblem(str(path))
        scip.setPresolve(pyscipopt.SCIP_PARAMSETTING.OFF)  # it would leave rows without a dual
        scip.setHeuristics(pyscipopt.SCIP_PARAMSETTING.OFF)
        scip.disablePropagation()
        for option, value in (OURS | dict(self._settings.solver_options)).items():
            scip.setParam(option, value)
        scip.setParam("limits/time", time_limit)
        scip.setParam("limits/gap", 0.0)
        scip.optimizeNogil()
        return self._told(scip, matrices)

    def _told(self, scip: Any, matrices: Any) -> Told:
        status = scip.getStatus()
        self._require_ended(status)
        if status == "timelimit" or not scip.getNSols():
            return Told(None, -np.inf, status != "timelimit")
        best = scip.getBestSol()
        values = in_order({v.name: best[v] for v in scip.getVars()}, "x", matrices.vlabels)
        bound = float(scip.getDualbound())
        rows = {row.name: scip.getDualsolLinear(row) for row in scip.getConss(False)}
        duals = with_single_rows(matrices, values, in_order(rows, "c", matrices.clabels))
        return Told(values, bound if abs(bound) < float(scip.infinity()) else -np.inf, True, duals)

    def _require_ended(self, status: str) -> None:
        """Raise InfeasibleProgram or SolverFailed for an end that is neither an optimum nor a time limit."""
        if status == "infeasible":
            raise infeasible(self.name)
        if status not in ENDED:
            raise SolverFailed(f"scip ended with status '{status}'; try other solver_options or another solver")


def in_order(values: dict[str, float], prefix: str, labels: Any) -> Array:
    """Values by name in the order of linopy's labels; a name that the solver dropped has value 0."""
    return np.array([values.get(f"{prefix}{label}", 0.0) for label in labels.tolist()], dtype=float)


def with_single_rows(matrices: Any, values: Array, duals: Array) -> Array:
    """Duals with those of rows over one column, which SCIP keeps as bounds of the column and gives the dual 0.

    Such a row a x_j (>= or <=) b that holds with equality takes over the reduced cost of x_j, unless it stands against
    the row or a bound of the column itself explains it.
    """
    matrix, duals = csr_array(matrices.A), duals.copy()
    reduced = np.asarray(matrices.c, dtype=float) - matrix.T @ duals
    single = np.flatnonzero(np.diff(matrix.indptr) == 1)
    column, factor = matrix.indices[matrix.indptr[single]], matrix.data[matrix.indptr[single]]
    for row, j, a in zip(single, column, factor, strict=True):
        sense, dual = matrices.sense[row], reduced[j] / a
        tight = abs(a * values[j] - matrices.b[row]) <= AT_BOUND * max(1.0, abs(matrices.b[row]))
        own = values[j] <= matrices.lb[j] + AT_BOUND if reduced[j] > 0 else values[j] >= matrices.ub[j] - AT_BOUND
        if tight and not own and dual * {"<": -1, ">": 1}.get(sense, np.sign(dual)) > 0:
            duals[row], reduced[j] = duals[row] + dual, 0.0
    return duals
