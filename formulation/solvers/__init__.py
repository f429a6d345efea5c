"""One program, any solver: the few calls that the outer approximation makes, answered by HiGHS or through linopy.

linopy writes every program. HiGHS keeps it alive and takes further rows with a hot start; any other solver that linopy
knows gets them through linopy, which hands over the whole program again.
"""

from __future__ import annotations

import difflib

import highspy
import linopy

from formulation.errors import SolverUnavailable
from formulation.program import Program
from formulation.settings import ScoreSettings
from formulation.solvers.highs import HighsSession, highs_version, set_options
from formulation.solvers.session import Answer, Session
from formulation.solvers.through_linopy import LinopySession

REFUSED_HIGHS = (1, 14, 0)  # returned wrong optima

__all__ = [
    "Answer",
    "HighsSession",
    "LinopySession",
    "Session",
    "open_session",
    "require_options",
    "require_solver",
]


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
    if name == "highs" and highs_version() == REFUSED_HIGHS:
        raise SolverUnavailable("highspy 1.14.0 returned wrong optima; install highspy 1.15.1")


def require_options(settings: ScoreSettings) -> None:
    """Raise InvalidSetting where HiGHS does not take a solver option; other solvers refuse when they run."""
    if settings.solver == "highs":
        set_options(highspy.Highs(), settings)
