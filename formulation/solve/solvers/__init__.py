"""One program, any solver: sessions with HiGHS, SCIP, CBC, GLPK, or whatever else linopy knows.

A session takes further cuts and answers with a point, a bound and duals.
"""

from formulation.solve.solvers.executables import CbcSession, GlpkSession
from formulation.solve.solvers.highs import HighsSession
from formulation.solve.solvers.isolated import IsolatedHighsSession
from formulation.solve.solvers.options import require_options
from formulation.solve.solvers.session import Answer, Session
from formulation.solve.solvers.solver_registry import open_session, require_solvable, require_solver
from formulation.solve.solvers.through_linopy import LinopySession

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
