"""Solving the program: linopy variables and constraints, the separation oracle, the outer approximation and its search
state.

Solvers answer through `formulation.solve.solvers`.
"""

from formulation.solve.constraints import (
    add_max_pool,
    add_split_relu,
    import_linopy,
    labelled_array,
    linear_expression,
    new_model,
    total_of,
)
from formulation.solve.outer_approximation import solve
from formulation.solve.program import Program, build_program
from formulation.solve.result import SolveResult, require_closed
from formulation.solve.search import Search, SearchProgress

__all__ = [
    "Program",
    "Search",
    "SearchProgress",
    "SolveResult",
    "add_max_pool",
    "add_split_relu",
    "build_program",
    "import_linopy",
    "labelled_array",
    "linear_expression",
    "new_model",
    "require_closed",
    "solve",
    "total_of",
]
