"""Any solver that linopy knows: the program is handed over whole in every round."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

import numpy as np
from xarray import DataArray

from formulation.errors import InfeasibleProgram, SolverFailed
from formulation.network import Array, Index
from formulation.program import Program
from formulation.rows import Rows
from formulation.settings import ScoreSettings
from formulation.solvers.session import Answer

TIME_OPTION: Mapping[str, str] = {
    "scip": "limits/time", "cbc": "sec", "glpk": "tmlim", "gurobi": "TimeLimit", "cplex": "timelimit",
    "xpress": "timelimit", "mosek": "MSK_DPAR_OPTIMIZER_MAX_TIME", "copt": "TimeLimit",
}  # fmt: skip
GAP_OPTION: Mapping[str, str] = {
    "scip": "limits/gap", "cbc": "ratioGap", "glpk": "mipgap", "gurobi": "MIPGap", "cplex": "mip.tolerances.mipgap",
    "xpress": "miprelstop", "mosek": "MSK_DPAR_MIO_TOL_REL_GAP", "copt": "RelGap",
}  # fmt: skip
PACKAGE: Mapping[str, str] = {"scip": "pyscipopt", "gurobi": "gurobipy", "copt": "coptpy"}


class LinopySession:
    """Any other solver, through linopy: the program is handed over whole in every round."""

    def __init__(self, program: Program, settings: ScoreSettings) -> None:
        self.name, self.version = settings.solver, _version(settings.solver)
        self._program, self._settings = program, settings
        self._whole = program.model.type == "MILP"

    def add_rows(self, name: str, rows: Rows) -> None:
        self._program.add_rows(name, rows)

    def fix(self, columns: Index, values: Array) -> None:
        model = self._program.model
        fixed = dict(zip(self._program.labels[columns].tolist(), np.asarray(values, dtype=float).tolist(), strict=True))
        for _, variable in model.variables.items():
            labels = variable.labels.values

            def bounded(old: DataArray, labels: Index = labels) -> DataArray:
                new = [fixed.get(int(k), v) for k, v in zip(labels.ravel(), old.values.ravel(), strict=True)]
                return old.copy(data=np.array(new).reshape(labels.shape))

            variable.update(lower=bounded(variable.lower), upper=bounded(variable.upper))

    def solve(self, time_limit: float, gap: float) -> Answer:
        model, name = self._program.model, self._settings.solver
        options = dict(self._settings.solver_options)
        if name in TIME_OPTION:
            options.setdefault(TIME_OPTION[name], max(1, int(np.ceil(time_limit))) if name == "glpk" else time_limit)
        if self._whole and name in GAP_OPTION:
            options.setdefault(GAP_OPTION[name], gap)
        _, condition = model.solve(solver_name=name, progress=False, **options)
        if condition == "infeasible":
            raise InfeasibleProgram(
                f"{name} calls the program infeasible, although the unpruned network satisfies it; check solver_options"
            )
        if condition not in ("optimal", "time_limit"):
            raise SolverFailed(f"{name} ended with '{condition}'; look at its log, its licence and solver_options")
        complete = condition == "optimal"
        objective = model.objective.value
        point = None
        if objective is not None and np.isfinite(objective) and (complete or self._whole):
            values = {name: variable.solution.values.ravel() for name, variable in model.variables.items()}
            labels = {name: variable.labels.values.ravel() for name, variable in model.variables.items()}
            by_label = np.zeros(1 + max(int(each.max()) for each in labels.values()))
            for each, found in values.items():
                by_label[labels[each]] = found
            point = by_label[self._program.labels]
        return Answer(point, self._bound(objective, gap, complete), complete)

    def _bound(self, objective: float | None, gap: float, complete: bool) -> float:
        report = getattr(self._program.model.solver, "report", None)
        told = getattr(report, "dual_bound", None)
        if self._whole and told is not None and np.isfinite(told):
            return float(told)
        if not complete or objective is None:
            return -np.inf
        # a solver that reports no bound ended within its relative gap
        return float(objective) - (gap * max(1.0, abs(objective)) if self._whole else 0.0)


def _version(solver: str) -> str:
    try:
        return metadata.version(PACKAGE.get(solver, solver))
    except metadata.PackageNotFoundError:
        return "unknown"
