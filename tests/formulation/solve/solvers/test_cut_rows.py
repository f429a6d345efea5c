"""Cuts that rest: which rows leave the solver, which come back, and that no answer is another one for it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from formulation.relaxation import stack_cuts
from formulation.solve.program import build_program
from formulation.solve.solvers import HighsSession
from formulation.solve.solvers import cut_rows as module
from formulation.solve.solvers.cut_rows import IDLE, CutRows
from tests.formulation.cases import dense, loss_cuts_at
from tests.formulation.paper_settings import paper_settings


def two_rows() -> CutRows:
    """Cuts x >= 1 and y >= 2 behind one row of the solver's own."""
    rows = CutRows(1, 2)
    rows.wake(rows.add(csr_array(np.eye(2)), np.array([1.0, 2.0]), np.full(2, np.inf)))
    return rows


def test_a_cut_rests_once_it_was_slack_often_enough_in_a_row() -> None:
    rows = two_rows()
    for _ in range(IDLE - 1):
        rows.note_slack(np.array([True, False, True]))
        assert not len(rows.rest())
    rows.note_slack(np.array([True, True, False]))  # the count of the second begins anew
    assert not len(rows.rest())
    for _ in range(IDLE - 1):
        rows.note_slack(np.array([True, True, False]))
    assert rows.rest().tolist() == [1]  # the solver's own row stays


def test_a_cut_that_rests_is_broken_by_values_beyond_it_and_has_dual_0() -> None:
    rows = two_rows()
    for _ in range(IDLE):
        rows.note_slack(np.array([False, True, False]))
    assert rows.rest().tolist() == [1]
    assert rows.of_cuts(np.array([7.0, 5.0])).tolist() == [0.0, 5.0]
    assert not len(rows.broken(np.array([1.0, 0.0]), 1e-9))  # what is awake is the solver's business
    assert rows.broken(np.array([0.9, 0.0]), 1e-9).tolist() == [0]
    matrix, lower, _ = rows.wake(np.array([0]))
    assert (matrix.toarray().tolist(), lower.tolist()) == ([[1.0, 0.0]], [1.0])
    assert rows.of_cuts(np.array([7.0, 5.0, 3.0])).tolist() == [3.0, 5.0]  # behind the rows that were there


def test_a_session_whose_cuts_rest_answers_as_one_that_is_given_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE", 1)
    rested: list[int] = []
    rest = CutRows.rest
    monkeypatch.setattr(CutRows, "rest", lambda rows: (left := rest(rows), rested.append(len(left)))[0])
    settings = paper_settings(gate="linear", radius=0)
    reduction = dense(4).reduction(settings)
    program = build_program(reduction, settings, integer=False)
    session, rng, given = HighsSession(program, settings), np.random.default_rng(0), []
    for point in (np.ones(reduction.scores), *rng.random((8, reduction.scores))):
        given.append(loss_cuts_at(reduction, point))
        session.add_cuts("cuts", given[-1])
        found = session.solve(60, 1e-9)
        whole = HighsSession(build_program(reduction, settings, integer=False), settings)
        whole.add_cuts("cuts", stack_cuts(given, len(program.labels)))
        expected = whole.solve(60, 1e-9)
        assert found.bound == pytest.approx(expected.bound, abs=1e-8)
        duals, count = session.duals(), sum(len(cuts) for cuts in given)
        assert duals is not None
        assert len(duals.cuts) == count
        assert found.point is not None
        row = stack_cuts(given, len(program.labels))
        assert (row.matrix @ found.point >= row.lower - 1e-8).all()
    assert sum(rested) > 0
