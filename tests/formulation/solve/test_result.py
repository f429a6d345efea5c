"""The end of a solve: its gap, and who may read cuts that a search with an open gap has left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from formulation import Round, SolverFailed, TimeLimitReached
from formulation.solution import relative_gap
from formulation.solve.outer_approximation import solve
from formulation.solve.result import require_closed
from tests.formulation.cases import dense
from tests.formulation.paper_settings import paper_settings


def test_rounds_are_plain_values() -> None:
    assert Round(0, "integer", -1.0, 1.0, 2.0, 3, 0.5).phase == "integer"


def test_a_gap_is_relative_to_the_objective_and_never_below_0() -> None:
    assert relative_gap(1.0, 2.0) == 0.0
    assert type(relative_gap(np.float64(2.0), np.float64(1.0))) is float
    assert relative_gap(10.0, 5.0) == 0.5
    assert relative_gap(0.5, 0.25) == 0.25


def test_an_open_gap_is_refused_with_the_remedy_for_what_ended_the_search() -> None:
    settings = paper_settings(radius=0.1, gap=1e-3)
    outcome = solve(dense(1, images=3).reduction(settings), settings)
    require_closed(outcome, settings, "the end")
    remedies = {
        "time_limit": (TimeLimitReached, "raise time_limit or gap"),
        "round_limit": (SolverFailed, "raise max_rounds or gap"),
        "stalled": (SolverFailed, "raise gap"),
    }
    for status, (error, remedy) in remedies.items():
        says = rf"before the end, at a relative gap of .*, 0\.001 was asked for; {remedy}$"
        with pytest.raises(error, match=says) as refusal:
            require_closed(replace(outcome, status=status), settings, "the end")
        assert type(refusal.value) is error
        assert len(str(refusal.value).splitlines()) == 1
