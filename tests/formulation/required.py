"""Solvers that a test needs, and what happens where one is missing."""

from __future__ import annotations

import os

import linopy
import pytest

SOLVERS = ("highs", "scip", "cbc", "glpk")


def require_installed(solver: str) -> None:
    """Skip the test by name where a solver is missing; fail it where $REQUIRED_SOLVERS, as in CI, names it."""
    if solver in linopy.available_solvers:
        return
    if solver in os.environ.get("REQUIRED_SOLVERS", "").split():
        pytest.fail(f"{solver} is required here ($REQUIRED_SOLVERS) and not installed")
    pytest.skip(f"{solver} is not installed (Debian: coinor-cbc, glpk-utils)")
