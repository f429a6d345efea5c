"""One program, any solver: the few calls that the outer approximation makes, answered by HiGHS or through linopy.

linopy writes every program. HiGHS keeps it alive and takes further rows with a hot start; any other solver that linopy
knows gets them through linopy, which hands over the whole program again.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import highspy
import linopy
import numpy as np
from xarray import DataArray

from formulation.errors import InfeasibleProgram, InvalidSetting, SolverFailed, SolverUnavailable
from formulation.loss import Rows
from formulation.network import Array
from formulation.program import Program
from formulation.reduction import Index
from formulation.settings import ScoreSettings

REFUSED_HIGHS = (1, 14, 0)  # returned wrong optima
FEASIBILITY = 1e-9
TIME_OPTION: Mapping[str, str] = {
    "scip": "limits/time", "cbc": "sec", "glpk": "tmlim", "gurobi": "TimeLimit", "cplex": "timelimit",
    "xpress": "timelimit", "mosek": "MSK_DPAR_OPTIMIZER_MAX_TIME", "copt": "TimeLimit",
}  # fmt: skip
GAP_OPTION: Mapping[str, str] = {
    "scip": "limits/gap", "cbc": "ratioGap", "glpk": "mipgap", "gurobi": "MIPGap", "cplex": "mip.tolerances.mipgap",
    "xpress": "miprelstop", "mosek": "MSK_DPAR_MIO_TOL_REL_GAP", "copt": "RelGap",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Answer:
    """What a solver said: `point` over our columns (None without one) and a lower bound on the optimum.

    `complete` is False where the time limit came first.
    """

    point: Array | None
    bound: float
    complete: bool


class Session(Protocol):
    """A program in a solver's hands."""

    name: str
    version: str

    def add_rows(self, name: str, rows: Rows) -> None:
        """Add rows over our columns."""

    def fix(self, columns: Index, values: Array) -> None:
        """Fix columns to values."""

    def solve(self, time_limit: float, gap: float) -> Answer:
        """Minimise; raises SolverFailed or InfeasibleProgram where there is no usable answer."""


def open_session(program: Program, settings: ScoreSettings) -> Session:
    """A session with the solver that the settings name."""
    require_solver(settings.solver)
    if settings.solver == "highs":
        return HighsSession(program, settings)
    return LinopySession(program, settings)


def require_solver(name: str) -> None:
    """Raise SolverUnavailable unless the solver is installed; the message lists those that are."""
    installed = list(linopy.available_solvers)
    if name not in installed:
        near = difflib.get_close_matches(name, installed, 1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise SolverUnavailable(f"solver '{name}' is not installed{hint}; installed: {', '.join(installed)}")
    if name == "highs" and _highs_version() == REFUSED_HIGHS:
        raise SolverUnavailable("highspy 1.14.0 returned wrong optima; install highspy 1.15.1")


def require_options(settings: ScoreSettings) -> None:
    """Raise InvalidSetting where HiGHS does not take a solver option; other solvers refuse when they run."""
    if settings.solver == "highs":
        _set_options(highspy.Highs(), settings)


class HighsSession:
    """HiGHS on a program that stays in its memory: added rows continue from the last basis."""

    def __init__(self, program: Program, settings: ScoreSettings) -> None:
        self.name, self.version = "highs", ".".join(map(str, _highs_version()))
        self._highs = highspy.Highs()
        _set_options(self._highs, settings)
        # HiGHS refuses to run where an earlier session of this thread set another number of solver threads
        self._highs.resetGlobalScheduler(True)
        matrices = program.model.matrices
        self._whole = bool(np.isin(matrices.vtypes, ["B", "I"]).any())
        self._position = np.zeros(int(matrices.vlabels.max()) + 1, dtype=np.int64)
        self._position[matrices.vlabels] = np.arange(len(matrices.vlabels))
        self._columns = self._position[program.labels]
        self._pass(matrices)

    def _pass(self, matrices: Any) -> None:
        highs, count = self._highs, len(matrices.vlabels)
        highs.addVars(count, matrices.lb, matrices.ub)
        highs.changeColsCost(count, np.arange(count, dtype=np.int32), np.asarray(matrices.c, dtype=float))
        whole = np.flatnonzero(np.isin(matrices.vtypes, ["B", "I"])).astype(np.int32)
        if len(whole):
            highs.changeColsIntegrality(len(whole), whole, np.full(len(whole), highspy.HighsVarType.kInteger))
        rows = matrices.A.tocsr()
        lower = np.where(matrices.sense == "<", -np.inf, matrices.b)
        upper = np.where(matrices.sense == ">", np.inf, matrices.b)
        highs.addRows(rows.shape[0], lower, upper, rows.nnz, rows.indptr, rows.indices, rows.data)

    def add_rows(self, name: str, rows: Rows) -> None:
        matrix = rows.matrix
        columns = self._columns[matrix.indices].astype(np.int32)
        self._highs.addRows(
            len(rows), rows.lower, rows.upper, matrix.nnz, matrix.indptr[:-1].astype(np.int32), columns, matrix.data
        )

    def fix(self, columns: Index, values: Array) -> None:
        where = self._columns[columns].astype(np.int32)
        self._highs.changeColsBounds(
            len(where), where, np.asarray(values, dtype=float), np.asarray(values, dtype=float)
        )

    def solve(self, time_limit: float, gap: float) -> Answer:
        highs, status = self._highs, highspy.HighsModelStatus
        # HiGHS measures a linear program's limit from the session's first run, a mixed-integer program's from this one
        highs.setOptionValue("time_limit", time_limit + (0.0 if self._whole else highs.getRunTime()))
        highs.setOptionValue("mip_rel_gap", float(gap))
        highs.run()
        ended, info = highs.getModelStatus(), highs.getInfo()
        if ended == status.kInfeasible:
            raise InfeasibleProgram(
                "highs calls the program infeasible, although the unpruned network satisfies it; check solver_options"
            )
        if ended not in (status.kOptimal, status.kTimeLimit):
            raise SolverFailed(
                f"highs ended with status '{highs.modelStatusToString(ended)}'; "
                "try other solver_options or another solver"
            )
        found = info.primal_solution_status == 2 and (self._whole or ended == status.kOptimal)
        point = np.array(highs.getSolution().col_value)[self._columns] if found else None
        if self._whole:
            bound = float(info.mip_dual_bound)
        else:
            bound = float(info.objective_function_value) if ended == status.kOptimal else -np.inf
        return Answer(point, bound, ended == status.kOptimal)


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
            values = np.zeros(int(self._program.labels.max()) + 1 + len(self._program.labels))
            for variable in model.solution.data_vars:
                labels = model.variables[str(variable)].labels.values.ravel()
                values[labels] = model.solution[variable].values.ravel()
            point = values[self._program.labels]
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


def _highs_version() -> tuple[int, int, int]:
    highs = highspy.Highs()
    return highs.versionMajor(), highs.versionMinor(), highs.versionPatch()


def _set_options(highs: highspy.Highs, settings: ScoreSettings) -> None:
    options = {
        "output_flag": False,
        "threads": settings.threads,
        "random_seed": 0,
        "primal_feasibility_tolerance": FEASIBILITY,
        "dual_feasibility_tolerance": FEASIBILITY,
        "mip_feasibility_tolerance": FEASIBILITY,
    } | dict(settings.solver_options)
    known = _highs_options(highs)
    for option, value in options.items():
        plain = isinstance(value, (bool, int, float, str))
        if not plain or highs.setOptionValue(option, value) != highspy.HighsStatus.kOk:
            raise _bad_option("highs", option, value, known)
    whole = settings.integer_scores or not settings.relax
    if whole and options.get("solver", "choose") != "choose":
        raise InvalidSetting(
            f"solver option solver='{options['solver']}' drops integrality; remove it for an integer program"
        )


def _highs_options(highs: highspy.Highs) -> list[str]:
    return [name for name in dir(highs.getOptions()) if not name.startswith("_")]


def _bad_option(solver: str, option: str, value: Any, known: list[str]) -> InvalidSetting:
    if option in known:
        return InvalidSetting(
            f"solver option {option}={value!r} is not a value that {solver} takes; look at its manual"
        )
    near = difflib.get_close_matches(option, known, 3)
    return InvalidSetting(
        f"solver option '{option}' is unknown to {solver}" + (f"; did you mean {', '.join(near)}?" if near else "")
    )


def _version(solver: str) -> str:
    from importlib import metadata

    package = {
        "scip": "pyscipopt",
        "gurobi": "gurobipy",
        "mosek": "mosek",
        "copt": "coptpy",
        "xpress": "xpress",
        "cplex": "cplex",
    }
    try:
        return metadata.version(package.get(solver, solver))
    except metadata.PackageNotFoundError:
        return "unknown"
