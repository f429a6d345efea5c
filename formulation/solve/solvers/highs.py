"""HiGHS on a program that stays in its memory."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import highspy
import numpy as np
from scipy.sparse import csr_array

from formulation.errors import InfeasibleProgram, InvalidSetting, SolverFailed
from formulation.network import Array, Index
from formulation.relaxation import Cuts, SolverDuals
from formulation.score_settings import ScoreSettings
from formulation.solve.program import Program
from formulation.solve.solvers.allowed_options import require_allowed
from formulation.solve.solvers.cut_rows import CutRows
from formulation.solve.solvers.session import Answer
from naming import did_you_mean

FEASIBILITY = 1e-9
RESIDUAL = 1e-7
FEASIBLE = 2  # HiGHS's kSolutionStatusFeasible


class HighsSession:
    """HiGHS on a program that stays in its memory: added rows continue from the last basis."""

    def __init__(self, program: Program, settings: ScoreSettings) -> None:
        self.name, self.version = "highs", ".".join(map(str, highs_version()))
        self._highs = highspy.Highs()
        set_options(self._highs, settings)
        self._presolve = str(self._highs.getOptionValue("presolve")[1])
        # HiGHS refuses to run where an earlier session of this thread set another number of solver threads
        self._highs.resetGlobalScheduler(True)
        matrices = program.model.matrices
        self._whole = bool(np.isin(matrices.vtypes, ["B", "I"]).any())
        self._position = np.zeros(int(matrices.vlabels.max()) + 1, dtype=np.int64)
        self._position[matrices.vlabels] = np.arange(len(matrices.vlabels))
        self._columns = self._position[program.labels]
        self._costs = np.asarray(matrices.c, dtype=float)
        order = np.argsort(matrices.clabels)
        self._own_rows = {
            name: order[np.searchsorted(matrices.clabels, constraint.labels.values.ravel(), sorter=order)]
            for name, constraint in program.model.constraints.items()
        }
        self._rows = CutRows(len(matrices.clabels), len(matrices.vlabels))
        self._pass(matrices)

    def _pass(self, matrices: Any) -> None:
        highs, count = self._highs, len(matrices.vlabels)
        highs.addVars(count, matrices.lb, matrices.ub)
        highs.changeColsCost(count, np.arange(count, dtype=np.int32), np.asarray(matrices.c, dtype=float))
        whole = np.flatnonzero(np.isin(matrices.vtypes, ["B", "I"])).astype(np.int32)
        if len(whole):
            highs.changeColsIntegrality(len(whole), whole, np.full(len(whole), highspy.HighsVarType.kInteger))
        lower = np.where(matrices.sense == "<", -np.inf, matrices.b)
        upper = np.where(matrices.sense == ">", np.inf, matrices.b)
        self._append(csr_array(matrices.A), lower, upper)

    def add_cuts(self, name: str, cuts: Cuts) -> None:
        self._rest()
        matrix = cuts.matrix
        placed = csr_array((matrix.data, self._columns[matrix.indices], matrix.indptr), (len(cuts), len(self._costs)))
        self._wake(self._rows.add(placed, cuts.lower, cuts.upper))

    def _wake(self, cuts: Index) -> None:
        """Hand cuts to HiGHS, after the rows that it holds."""
        self._append(*self._rows.wake(cuts))

    def _rest(self) -> None:
        """Take rows from HiGHS that have been slack for a while; its last answer is lost with them."""
        if self._whole or not len(slack := self._rows.rest()):
            return
        self._highs.deleteRows(len(slack), slack.astype(np.int32))

    def _append(self, matrix: csr_array, lower: Array, upper: Array) -> None:
        starts, columns = matrix.indptr[:-1].astype(np.int32), matrix.indices.astype(np.int32)
        status = self._highs.addRows(len(lower), lower, upper, matrix.nnz, starts, columns, matrix.data)
        if status == highspy.HighsStatus.kError:
            raise SolverFailed("highs refused rows of the program; look for weights of extreme magnitude")

    def fix(self, columns: Index, values: Array) -> None:
        self.restrict(columns, values, values)

    def restrict(self, columns: Index, lower: Array, upper: Array) -> None:
        where = self._columns[columns].astype(np.int32)
        self._highs.changeColsBounds(len(where), where, np.asarray(lower, dtype=float), np.asarray(upper, dtype=float))

    def limit_objective(self, most: float) -> None:
        """Add the row objective <= most."""
        priced = np.flatnonzero(self._costs)
        row = csr_array((self._costs[priced], (np.zeros(len(priced), dtype=int), priced)), shape=(1, len(self._costs)))
        self._append(row, np.array([-np.inf]), np.array([most]))
        self._rows.keep_one()

    def set_objective(self, columns: Index, costs: Array) -> None:
        """Minimise the costs of these columns from now on, and nothing else."""
        made = np.zeros(len(self._costs))
        made[self._columns[columns]] = costs
        self._highs.changeColsCost(len(made), np.arange(len(made), dtype=np.int32), made)

    def duals(self) -> SolverDuals | None:
        """The duals of the last answer; None where it was no linear program's optimum."""
        solution = self._highs.getSolution()
        if self._whole or not solution.dual_valid:
            return None
        found = np.array(solution.row_dual)
        return SolverDuals(self._rows.of_cuts(found), {name: found[where] for name, where in self._own_rows.items()})

    def solve(self, time_limit: float, gap: float) -> Answer:
        ends, bound = time.monotonic() + time_limit, -np.inf
        while True:
            answer = self._solve_awake(max(ends - time.monotonic(), 0.0), gap)
            # An optimum on fewer rows bounds that on all of them.
            bound = max(bound, answer.bound)
            if self._whole or not answer.complete:
                return replace(answer, bound=bound)
            values = np.array(self._highs.getSolution().col_value)
            if not len(broken := self._rows.broken(values, FEASIBILITY)):
                self._rows.note_slack(np.array(self._highs.getSolution().row_dual) == 0)
                return answer
            self._wake(broken)

    def _solve_awake(self, time_limit: float, gap: float) -> Answer:
        """The answer on the rows that HiGHS holds."""
        highs, status = self._highs, highspy.HighsModelStatus
        # HiGHS measures a linear program's limit from the session's first run, a mixed-integer program's from this one
        highs.setOptionValue("time_limit", time_limit + (0.0 if self._whole else highs.getRunTime()))
        highs.setOptionValue("mip_rel_gap", gap)
        highs.setOptionValue("mip_abs_gap", gap)
        highs.run()
        ended = highs.getModelStatus()
        if ended == status.kUnknown or (ended == status.kOptimal and not self._settled()):
            # A hot start may end beyond the tolerances by rounding, or nowhere: solve once more from scratch.
            highs.clearSolver()
            highs.run()
        if highs.getModelStatus() == status.kInfeasible and self._presolve != "off":
            # Presolve of HiGHS 1.15.1 calls feasible programs infeasible: its word is taken once it is said without.
            highs.clearSolver()
            highs.setOptionValue("presolve", "off")
            highs.run()
            highs.setOptionValue("presolve", self._presolve)
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
        if ended == status.kOptimal and not self._settled():
            raise SolverFailed(
                f"highs ended as optimal with residuals of {info.max_primal_infeasibility:.1e} (primal) and "
                f"{info.max_dual_infeasibility:.1e} (dual); try other solver_options or another solver"
            )
        found = ended == status.kOptimal or (self._whole and info.primal_solution_status == FEASIBLE)
        point = np.array(highs.getSolution().col_value)[self._columns] if found else None
        if self._whole:
            bound = float(info.mip_dual_bound)
        else:
            bound = float(info.objective_function_value) if ended == status.kOptimal else -np.inf
        return Answer(point, bound, ended == status.kOptimal)

    def _settled(self) -> bool:
        """Whether the residuals of an answer are small enough to go on from; the checker judges the last one."""
        info = self._highs.getInfo()
        if self._whole:
            return bool(info.primal_solution_status == FEASIBLE)
        return bool(max(info.max_primal_infeasibility, info.max_dual_infeasibility) <= RESIDUAL)


def highs_version() -> tuple[int, int, int]:
    """The version of the installed HiGHS."""
    highs = highspy.Highs()
    return highs.versionMajor(), highs.versionMinor(), highs.versionPatch()


def options_of(settings: ScoreSettings) -> dict[str, Any]:
    """Our options and the settings' own, which prevail."""
    return {
        "output_flag": False,
        "threads": settings.threads,
        "random_seed": 0,
        "primal_feasibility_tolerance": FEASIBILITY,
        "dual_feasibility_tolerance": FEASIBILITY,
        "mip_feasibility_tolerance": FEASIBILITY,
        "simplex_scale_strategy": 4,  # the strongest: loss cuts mix coefficients of many magnitudes
        "small_matrix_value": 1e-12,  # its default drops coefficients that a valid row needs
    } | dict(settings.solver_options)


def set_options(highs: highspy.Highs, settings: ScoreSettings) -> None:
    """Set our options and the settings' own; raises InvalidSetting for one that HiGHS does not take."""
    options = options_of(settings)
    known = [name for name in dir(highs.getOptions()) if not name.startswith("_")]
    highs.setOptionValue("output_flag", False)
    for option, value in settings.solver_options.items():
        # before any is set: HiGHS opens a log file while it is told its name
        if highs.getOptionType(option)[0] == highspy.HighsStatus.kOk:
            require_allowed("highs", option, value)
    for option, value in options.items():
        plain = isinstance(value, (bool, int, float, str))
        if not plain or highs.setOptionValue(option, value) != highspy.HighsStatus.kOk:
            raise _bad_option(option, value, known)
    whole = settings.integer_scores or not settings.relax
    if whole and options.get("solver", "choose") != "choose":
        raise InvalidSetting(
            f"solver option solver='{options['solver']}' drops integrality; remove it for an integer program"
        )


def _bad_option(option: str, value: Any, known: list[str]) -> InvalidSetting:
    if option in known:
        return InvalidSetting(f"solver option {option}={value!r} is not a value that highs takes; look at its manual")
    hint = did_you_mean(option, known, most=3)
    return InvalidSetting(f"solver option '{option}' is unknown to highs" + (f"; {hint}" if hint else ""))
