"""HiGHS on integer programs, in a process of its own: its branch and bound has crashed where linear programs do not."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from formulation.errors import InfeasibleProgram, SolverFailed
from formulation.network import Array, Index
from formulation.relaxation import Cuts
from formulation.score_settings import ScoreSettings
from formulation.solve.program import Program
from formulation.solve.solvers.highs import highs_version, options_of
from formulation.solve.solvers.process import SolverProcess
from formulation.solve.solvers.session import Answer

OPTIMAL, TIME, INFEASIBLE = "kOptimal", "kTimeLimit", "kInfeasible"


class IsolatedHighsSession:
    """HiGHS on an integer program, which is handed over whole in every round; the process stays."""

    def __init__(self, program: Program, settings: ScoreSettings) -> None:
        self.name, self.version = "highs", ".".join(map(str, highs_version()))
        self.process = SolverProcess(self.name, self.version, "highspy")
        self._options = options_of(settings)
        matrices = program.model.matrices
        position = np.zeros(int(matrices.vlabels.max()) + 1, dtype=np.int64)
        position[matrices.vlabels] = np.arange(len(matrices.vlabels))
        self._columns = position[program.labels]
        self._lower, self._upper = (np.array(bound, dtype=float) for bound in (matrices.lb, matrices.ub))
        self._costs = np.asarray(matrices.c, dtype=float)
        self._whole = np.flatnonzero(np.isin(matrices.vtypes, ["B", "I"])).astype(np.int32)
        self._rows: list[tuple[Any, ...]] = []
        lower = np.where(matrices.sense == "<", -np.inf, matrices.b)
        upper = np.where(matrices.sense == ">", np.inf, matrices.b)
        self._append(csr_array(matrices.A), np.arange(len(self._costs)), lower, upper)

    def add_cuts(self, name: str, cuts: Cuts) -> None:
        self._append(cuts.matrix, self._columns, cuts.lower, cuts.upper)

    def _append(self, matrix: csr_array, position: Index, lower: Array, upper: Array) -> None:
        starts, columns = matrix.indptr[:-1].astype(np.int32), position[matrix.indices].astype(np.int32)
        low, high = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
        self._rows.append((low, high, starts, columns, np.asarray(matrix.data, dtype=float)))

    def fix(self, columns: Index, values: Array) -> None:
        self.restrict(columns, values, values)

    def restrict(self, columns: Index, lower: Array, upper: Array) -> None:
        self._lower[self._columns[columns]] = lower
        self._upper[self._columns[columns]] = upper

    def solve(self, time_limit: float, gap: float) -> Answer:
        request = {
            "options": self._options | {"mip_rel_gap": gap, "mip_abs_gap": gap},
            **{"costs": self._costs, "lower": self._lower, "upper": self._upper, "whole": self._whole},
            "rows": self._rows,
        }
        told = self.process.ask(request, time_limit)
        return Answer(None, -np.inf, complete=False) if told is None else self._answer(told)

    def _answer(self, told: dict[str, Any]) -> Answer:
        status = told["status"]
        if status == "refused rows":
            raise SolverFailed("highs refused rows of the program; look for weights of extreme magnitude")
        if status == INFEASIBLE:
            raise InfeasibleProgram(
                "highs calls the program infeasible, although the unpruned network satisfies it; check solver_options"
            )
        if status not in (OPTIMAL, TIME):
            raise SolverFailed(f"highs ended with status '{told['words']}'; try other solver_options or another solver")
        if status == OPTIMAL and not told["feasible"]:
            raise SolverFailed(
                f"highs ended as optimal with a residual of {told['residual']:.1e}; "
                "try other solver_options or another solver"
            )
        point = None if told["point"] is None else told["point"][self._columns]
        return Answer(point, told["bound"], status == OPTIMAL)
