"""Proved bounds of a search: the best stays, and a solver without duals borrows those of HiGHS."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from formulation import SolverFailed
from formulation.relaxation.cuts import stack_cuts
from formulation.solve import proved_bound
from formulation.solve.proved_bound import ProvedBound, duals_by_highs
from formulation.solve.search import Search
from formulation.solve.solvers import HighsSession
from tests.formulation.cases import dense
from tests.formulation.paper_settings import paper_settings

SETTINGS = paper_settings(radius=0.1, gap=1e-7, loss_weight=20)


@pytest.fixture
def search() -> Search:
    made = Search(dense(1, images=6).reduction(SETTINGS), SETTINGS, None)
    made.begin()
    made.run("relaxation")
    return made


def test_nothing_is_proved_before_the_first_duals() -> None:
    assert ProvedBound().bound == -math.inf


def test_the_best_dual_bound_stays(search: Search) -> None:
    cuts = stack_cuts(search.pool, search.width)
    duals = duals_by_highs(search.reduction, SETTINGS.for_highs(), cuts, 60.0)
    assert duals is not None
    proved = ProvedBound()
    best = proved.raised_by(search.reduction, cuts, duals)
    assert best == pytest.approx(search.best.objective, abs=1e-5)
    assert proved.bound == best
    kept = proved.dual_bound
    worse = replace(duals, cuts=np.zeros_like(duals.cuts))
    assert proved.raised_by(search.reduction, cuts, worse) == best
    assert proved.dual_bound is kept


def test_highs_that_fails_leaves_the_other_solvers_answer(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(HighsSession):
        def solve(self, time_limit: float, gap: float):
            raise SolverFailed("no")

    monkeypatch.setattr(proved_bound, "HighsSession", Failing)
    assert duals_by_highs(search.reduction, SETTINGS, stack_cuts(search.pool, search.width), 60.0) is None
