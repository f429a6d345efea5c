"""What the outer approximation asks of any solver, and what it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from formulation.network import Array, Index
from formulation.rows import Rows


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
