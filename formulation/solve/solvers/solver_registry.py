"""One program, any solver: the few calls that the outer approximation makes, answered by HiGHS or through linopy.

linopy writes every program. HiGHS keeps it alive and takes further rows with a hot start; any other solver that linopy
knows gets them through linopy, which hands over the whole program again.
"""

from __future__ import annotations

from formulation.errors import SolverUnavailable
from formulation.score_settings import ScoreSettings, require_settings
from formulation.solve.program import Program
from formulation.solve.solvers.executables import CbcSession, GlpkSession
from formulation.solve.solvers.highs import HighsSession, highs_version
from formulation.solve.solvers.isolated import IsolatedHighsSession
from formulation.solve.solvers.options import require_options
from formulation.solve.solvers.session import Answer, Session
from formulation.solve.solvers.through_linopy import LinopySession
from naming import did_you_mean, install_command

REFUSED_HIGHS = (1, 14, 0)  # returned wrong optima

__all__ = [
    "Answer",
    "CbcSession",
    "GlpkSession",
    "HighsSession",
    "IsolatedHighsSession",
    "LinopySession",
    "Session",
    "open_session",
    "require_options",
    "require_solvable",
    "require_solver",
]


def open_session(program: Program, settings: ScoreSettings) -> Session:
    """A session with the solver that the settings name.

    Args:
        program: relaxed or integer; its own from then on.
        settings: the solver, its options and threads.

    Raises:
        SolverUnavailable: the solver is not installed or has no licence.
    """
    require_solver(settings.solver)
    match settings.solver:
        case "highs":
            whole = program.model.type == "MILP"
            return IsolatedHighsSession(program, settings) if whole else HighsSession(program, settings)
        case "cbc":
            return CbcSession(program, settings)
        case "glpk":
            return GlpkSession(program, settings)
        case "scip":
            from formulation.solve.solvers.scip import ScipSession  # SCIP is loaded where it is asked for

            return ScipSession(program, settings)
        case _:
            return LinopySession(program, settings)


def require_solvable(settings: ScoreSettings) -> None:
    """Raise before any work unless these are settings, of an installed solver that takes their options."""
    require_settings(settings)
    require_solver(settings.solver)
    require_options(settings)


def require_solver(name: str) -> None:
    """Raise SolverUnavailable unless the solver is installed, with a licence; the message lists those that are."""
    import linopy

    installed = list(linopy.available_solvers)
    if name not in installed:
        hint = did_you_mean(name, installed)
        guess = f" ({hint})" if hint else ""
        remedy = f": {install_command('solvers')}" if name == "scip" else guess
        raise SolverUnavailable(f"solver '{name}' is not installed{remedy}; installed: {', '.join(installed)}")
    if name == "highs" and highs_version() == REFUSED_HIGHS:
        raise SolverUnavailable("highspy 1.14.0 returned wrong optima; install highspy 1.15.1")
    licence = linopy.solvers.check_solver_licenses(name)[name]
    if not licence:
        said = " ".join(str(licence.message).split())[:200]
        others = ", ".join(other for other in installed if other != name)
        raise SolverUnavailable(f"solver '{name}' is installed but has no licence ({said}); without one: {others}")
