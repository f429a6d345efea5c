"""Solver sessions: the calls of the outer approximation, and the answers to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from formulation.network import Array, Index
from formulation.relaxation import Cuts


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

    def add_cuts(self, name: str, cuts: Cuts) -> None:
        """Add cuts over our columns."""

    def fix(self, columns: Index, values: Array) -> None:
        """Fix columns to values."""

    def restrict(self, columns: Index, lower: Array, upper: Array) -> None:
        """Let columns range over [lower, upper] from now on."""

    def solve(self, time_limit: float, gap: float) -> Answer:
        """Minimise; raises SolverFailed or InfeasibleProgram where there is no usable answer."""
